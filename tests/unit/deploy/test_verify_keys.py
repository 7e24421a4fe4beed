"""What verify.yml learns of the private keys on a host."""

import os
import pwd

import pytest

from tests.unit.deploy.programs import playbook_program

verify_keys = playbook_program("verify_keys")


def test_an_owner_without_an_account_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a removed account is reported, and does not end the look at all others."""
    own = pwd.getpwuid(os.geteuid())
    assert verify_keys.owner(own.pw_uid) == own.pw_name

    def missing(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(verify_keys.pwd, "getpwuid", missing)
    assert verify_keys.owner(54_321) == "uid 54321"
