"""`zkp admin revoke`: which certificates are meant, and whose word that is."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki.ca.authority import Authority
from pki.ca.signing import CertifiedKey, pem_of, sign_crl
from pki.x509.crl import CrlEntry as Entry
from pki.x509.crl import Reason
from pki.x509.identity import Role
from zkp.cli import app
from zkp.client import task_json
from zkp.client.admin import AdminClient, Revocation, RevocationResult

NOW = datetime.now(UTC)


class Asked:
    """In the place of the cluster: remembers what was to be revoked, half of which it knew."""

    def __init__(self) -> None:
        self.revoked: list[tuple[str, str]] = []
        self.holders: dict[str, str] = {}

    async def revoke(self, serials: Sequence[tuple[str, str]]) -> RevocationResult:
        self.revoked += serials
        found = (Revocation(serial, self.holders.get(serial, ""), reason, NOW, NOW) for serial, reason in serials)
        return RevocationResult(len(serials) // 2, tuple(found))

    async def revocations(self) -> list[Revocation]:
        return [Revocation("b0b", "worker/worker-1", "superseded", NOW, NOW + timedelta(days=9))]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(AdminClient, "revoke", asked.revoke)
    monkeypatch.setattr(AdminClient, "revocations", asked.revocations)
    return asked


@pytest.fixture
def authority() -> Authority:
    return Authority.create("zkp.local", now=NOW)


@pytest.fixture
def admin(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An admin's identity, which the environment names."""
    authority.issue("admin", Role.ADMIN, now=NOW).write(tmp_path)
    monkeypatch.setenv("ZKP_IDENTITY", str(tmp_path / "admin"))
    monkeypatch.setenv("ZKP_COORDINATORS", "127.0.0.1:1")
    return tmp_path / "admin"


def crl(ca: CertifiedKey, *entries: Entry) -> bytes:
    """A list that this authority has signed."""
    return pem_of(sign_crl(ca, entries, number=1, now=NOW, life=timedelta(days=7)))


@pytest.mark.usefixtures("admin")
def test_serial_numbers_are_taken_as_other_tools_print_them(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """With colons, capitals, 0x or leading zeros: the same certificate."""
    written = ["0x0B0B", "0b:0b", "B0B", "000b0b"]

    assert app.run(["admin", "revoke", *written, "--reason", "key-compromise"]) == 0

    assert asked.revoked == [("b0b", "key-compromise")] * 4
    assert capsys.readouterr().out.startswith("revoked: 2, and 2 had been before\n")


@pytest.mark.usefixtures("admin")
def test_the_answer_names_each_holder_or_says_that_none_is_known(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """A serial number that is not any member's is not reported as a success alone."""
    asked.holders["b0b"] = "worker/worker-1"

    assert app.run(["admin", "revoke", "b0b", "c3"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "0b0b is the certificate of worker/worker-1"
    assert lines[2].startswith(
        "c3: no member with this serial number is known to the leader; compare it with `pki list`"
    )

    assert app.run(["admin", "revoke", "b0b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revocations"][0]["subject"] == "worker/worker-1"


@pytest.mark.usefixtures("admin")
def test_a_decimal_serial_number_is_questioned(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Read as hexadecimal it would name another certificate, or none."""
    assert app.run(["admin", "revoke", str(0x5D1C0A9B5D1C0A9B5D1C0A9B5D1C0A9B)]) == 2
    assert "is it decimal?" in capsys.readouterr().err
    assert asked.revoked == []


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize("text", ["worker-1", "", "f" * 41, "g0"])
def test_what_is_no_serial_number_is_refused(asked: Asked, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before anything is revoked."""
    assert app.run(["admin", "revoke", "b0b", text]) == 2
    assert "is not a serial number" in capsys.readouterr().err
    assert asked.revoked == []


@pytest.mark.usefixtures("admin")
def test_something_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither nothing nor everything is revoked by a slip."""
    assert app.run(["admin", "revoke"]) == 2
    assert "give serial numbers, or --crl FILE" in capsys.readouterr().err


@pytest.mark.usefixtures("admin")
def test_a_list_of_our_own_authority_is_believed(authority: Authority, asked: Asked, tmp_path: Path) -> None:
    """Every entry, with its reason; serial numbers may be given beside it."""
    file = tmp_path / "crl.pem"
    file.write_bytes(crl(authority.issuer, Entry(0xA1, NOW, Reason.SUPERSEDED), Entry(0xB2, NOW)))

    assert app.run(["admin", "revoke", "c3", "--crl", str(file)]) == 0

    assert asked.revoked == [("c3", "unspecified"), ("a1", "superseded"), ("b2", "unspecified")]


@pytest.mark.usefixtures("admin")
def test_a_list_of_somebody_else_is_not(
    authority: Authority, asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor one that is signed by another key in our authority's name; beside a good one it is left out aloud."""
    stranger = Authority.create("zkp.local", now=NOW).issuer
    forged = CertifiedKey(authority.issuer.certificate, stranger.key)
    file = tmp_path / "crl.pem"
    for theirs in (stranger, forged):
        file.write_bytes(crl(theirs, Entry(0xA1, NOW)))
        assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
        assert "holds no list that an authority known to" in capsys.readouterr().err
    assert asked.revoked == []

    file.write_bytes(crl(stranger, Entry(0xA1, NOW)) + crl(authority.issuer, Entry(0xB2, NOW)))
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 0
    assert asked.revoked == [("b2", "unspecified")]
    assert "left out the list of CN=issuing CA" in capsys.readouterr().err


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nonsense", "holds something other than PEM revocation lists"), (None, "No such file")],
)
def test_a_file_that_is_no_list_is_one_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its name."""
    file = tmp_path / "crl.pem"
    if content is not None:
        file.write_bytes(content)
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("admin")
def test_an_empty_list_is_said_to_be_empty(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Success would look as if somebody had been shut out."""
    file = tmp_path / "crl.pem"
    file.write_bytes(crl(authority.issuer))
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
    assert "names no certificate" in capsys.readouterr().err


@pytest.mark.usefixtures("admin", "asked")
def test_who_is_shut_out_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, and as JSON for programs."""
    assert app.run(["admin", "revoked"]) == 0
    assert "0b0b    worker/worker-1  superseded" in capsys.readouterr().out
    assert app.run(["admin", "revoked", "--json"]) == 0
    assert f'"revoked_at": "{task_json.moment(NOW)}"' in capsys.readouterr().out
