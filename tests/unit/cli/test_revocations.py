"""`zkp admin revoke`: serial numbers, revocation lists and their signatures."""

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
    """A fake cluster that records the revocations, half of which it had already."""

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
    """An admin's identity, set in the environment."""
    authority.issue("admin", Role.ADMIN, now=NOW).write(tmp_path)
    monkeypatch.setenv("ZKP_IDENTITY", str(tmp_path / "admin"))
    monkeypatch.setenv("ZKP_COORDINATORS", "127.0.0.1:1")
    return tmp_path / "admin"


def crl(ca: CertifiedKey, *entries: Entry) -> bytes:
    """Return a list signed by this authority."""
    return pem_of(sign_crl(ca, entries, number=1, now=NOW, life=timedelta(days=7)))


@pytest.mark.usefixtures("admin")
def test_serial_numbers_are_taken_as_other_tools_print_them(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Colons, upper case, 0x and leading zeros are accepted."""
    written = ["0x0B0B", "0b:0b", "B0B", "000b0b"]

    assert app.run(["admin", "revoke", *written, "--reason", "key-compromise"]) == 0

    assert asked.revoked == [("b0b", "key-compromise")] * 4
    assert capsys.readouterr().out.startswith("revoked: 2; already revoked: 2\n")


@pytest.mark.usefixtures("admin")
def test_the_answer_names_each_holder_or_says_that_none_is_known(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output names serial numbers that are not known to the leader."""
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
    """A decimal serial number is rejected, since as hexadecimal it is a different one."""
    assert app.run(["admin", "revoke", str(0x5D1C0A9B5D1C0A9B5D1C0A9B5D1C0A9B)]) == 2
    assert "is it decimal?" in capsys.readouterr().err
    assert asked.revoked == []


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize("text", ["worker-1", "", "f" * 41, "g0"])
def test_what_is_no_serial_number_is_refused(asked: Asked, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid serial number is rejected before anything is revoked."""
    assert app.run(["admin", "revoke", "b0b", text]) == 2
    assert "is not a serial number" in capsys.readouterr().err
    assert asked.revoked == []


@pytest.mark.usefixtures("admin")
def test_something_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Without serial numbers or a list the command fails."""
    assert app.run(["admin", "revoke"]) == 2
    assert "give serial numbers or --crl FILE" in capsys.readouterr().err


@pytest.mark.usefixtures("admin")
def test_a_list_of_our_own_authority_is_believed(authority: Authority, asked: Asked, tmp_path: Path) -> None:
    """Every entry of a list is revoked with its reason, together with the given serial numbers."""
    file = tmp_path / "crl.pem"
    file.write_bytes(crl(authority.issuer, Entry(0xA1, NOW, Reason.SUPERSEDED), Entry(0xB2, NOW)))

    assert app.run(["admin", "revoke", "c3", "--crl", str(file)]) == 0

    assert asked.revoked == [("c3", "unspecified"), ("a1", "superseded"), ("b2", "unspecified")]


@pytest.mark.usefixtures("admin")
def test_a_list_of_another_authority_is_rejected(
    authority: Authority, asked: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list with another signature is rejected, and skipped with a note beside a valid one."""
    stranger = Authority.create("zkp.local", now=NOW).issuer
    forged = CertifiedKey(authority.issuer.certificate, stranger.key)
    file = tmp_path / "crl.pem"
    for theirs in (stranger, forged):
        file.write_bytes(crl(theirs, Entry(0xA1, NOW)))
        assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
        assert "contains no list signed by an authority known to" in capsys.readouterr().err
    assert asked.revoked == []

    file.write_bytes(crl(stranger, Entry(0xA1, NOW)) + crl(authority.issuer, Entry(0xB2, NOW)))
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 0
    assert asked.revoked == [("b2", "unspecified")]
    assert "skipped the list of CN=issuing CA" in capsys.readouterr().err


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nonsense", "holds something other than PEM revocation lists"), (None, "No such file")],
)
def test_a_file_that_is_not_a_list_is_an_error(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the file."""
    file = tmp_path / "crl.pem"
    if content is not None:
        file.write_bytes(content)
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("admin")
def test_an_empty_list_is_an_error(authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is an error."""
    file = tmp_path / "crl.pem"
    file.write_bytes(crl(authority.issuer))
    assert app.run(["admin", "revoke", "--crl", str(file)]) == 1
    assert "contains no certificate" in capsys.readouterr().err


@pytest.mark.usefixtures("admin", "asked")
def test_who_is_shut_out_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Revocations are listed as a table and as JSON."""
    assert app.run(["admin", "revoked"]) == 0
    assert "0b0b    worker/worker-1  superseded" in capsys.readouterr().out
    assert app.run(["admin", "revoked", "--json"]) == 0
    assert f'"revoked_at": "{task_json.timestamp(NOW)}"' in capsys.readouterr().out
