"""The user of the embedded PostgreSQL: the error if it does not exist."""

import os
import pwd
from pathlib import Path

import pytest

from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.postgres import EmbeddedPostgres

_UID = 3_999_999


def unknown(_: object) -> pwd.struct_passwd:
    """The user is missing in the user database."""
    raise KeyError


@pytest.mark.parametrize(("uid", "named"), [(_UID, f"user id {_UID}"), (0, "user nobody")])
def test_a_user_without_an_entry_is_named_with_the_way_around(
    uid: int, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A uid without an entry in /etc/passwd, as in containers, gives a one-line error and no data directory."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)

    with pytest.raises(LocalClusterError) as caught:
        EmbeddedPostgres(tmp_path / "postgres").initialise()

    assert str(caught.value) == (
        f"{named}: has no entry in /etc/passwd, which PostgreSQL needs; "
        "add the entry, or set ZKP_DATABASE_URL to use another PostgreSQL server"
    )
    assert not (tmp_path / "postgres").exists()
