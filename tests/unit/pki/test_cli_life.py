"""The `pki` command through an authority's life: requests, renewals, revocations, rotations, checks."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki.cli import main
from pki.commands import common
from pki.tls.material import TlsFiles, TlsMaterial
from tests.unit.pki.commands import INIT, ISSUE, answer, refused, said

A = ["--authority", "ca"]
HOSTS = """
coordinators: {hosts: {coordinator-1: {ansible_host: 127.0.0.1}}}
workers: {hosts: {worker-1: , worker-2: }}
"""
pytestmark = pytest.mark.usefixtures("empty_place")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Moves the commands' clock on by so many days from now."""

    def move(days: int) -> None:
        moment = datetime.now(UTC) + timedelta(days=days)
        for module in ("authority", "check", "common", "inspect", "issue", "revoke"):
            monkeypatch.setattr(f"pki.commands.{module}.now", lambda: moment)

    return move


@pytest.fixture(autouse=True)
def _authority(empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An authority, an inventory and worker-1."""
    main(INIT)
    main(ISSUE)
    Path("hosts.yml").write_text(HOSTS)
    capsys.readouterr()


def test_an_inventory_is_issued_in_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Every host gets its identity; who has one already stops it, unless only the missing are asked for."""
    issue = ["issue", "--inventory", "hosts.yml", *A, "--out", "certs"]
    assert "certs/worker-1 already exists" in refused(capsys, *issue)
    assert not Path("certs/worker-2").exists()
    made = answer(capsys, *issue, "--missing")
    assert [one["name"] for one in made] == ["coordinator-1", "worker-2"]
    assert answer(capsys, *issue, "--missing") == []
    for one in made:
        assert TlsMaterial.load(TlsFiles.in_directory(Path("certs") / one["name"])).identity.uri == one["identity"]


def test_a_key_can_stay_on_its_host(capsys: pytest.CaptureFixture[str]) -> None:
    """Request on the host, sign at the authority, and the certificate goes beside the key."""
    host = ["--host", "127.0.0.1"]
    asked = answer(capsys, "request", "worker-9", *host, "--out", "host")
    assert "already exists" in refused(capsys, "request", "worker-9", "--out", "host")
    sign = ["sign", asked["request"], "--name", "worker-9", "--role", "worker", *A, "--out", "host"]
    assert "host/worker-9/request.csr asks for host 127.0.0.1" in refused(capsys, *sign)
    [signed] = answer(capsys, *sign, *host)
    assert signed["key"] is None
    assert TlsMaterial.load(TlsFiles.in_directory(Path("host/worker-9"))).identity.name == "worker-9"
    assert "its key is on the host" in said(capsys, "renew", "worker-9", *A, "--out", "host")
    assert "No such file" in refused(capsys, "sign", "x.csr", "--name", "w", "--role", "worker", *A)
    Path("x.csr").write_bytes(b"nonsense")
    assert "x.csr is not a readable signing request" in refused(
        capsys, "sign", "x.csr", "--name", "w", "--role", "worker", *A
    )


def test_what_is_due_is_renewed(capsys: pytest.CaptureFixture[str], later: Callable[[int], None]) -> None:
    """Before two thirds nothing is done, after it the certificate in its place is a new one."""
    renew = ["renew", "--due", *A, "--out", "certs"]
    assert said(capsys, *renew) == "nothing is due\n"
    assert answer(capsys, *renew) == []
    before = Path("certs/worker-1/certificate.pem").read_bytes()
    later(21)
    [one] = answer(capsys, *renew)
    assert one["name"] == "worker-1"
    assert Path("certs/worker-1/certificate.pem").read_bytes() != before
    assert "nobody" in refused(capsys, "renew", "nobody", *A)


def test_revoking_by_name_and_what_was_superseded(capsys: pytest.CaptureFixture[str]) -> None:
    """Serial numbers come out for whoever tells the running nodes, and a second time changes nothing."""
    assert said(capsys, "revoke", "--superseded", *A) == "nothing is superseded\n"
    main(["renew", "worker-1", *A, "--out", "certs"])
    [old] = answer(capsys, "revoke", "--superseded", *A)
    assert (old["name"], old["reason"], old["before"]) == ("worker-1", "superseded", False)
    taken = answer(capsys, "revoke", "worker-1", "--reason", "key-compromise", *A)
    assert [(one["reason"], one["before"]) for one in taken] == [("superseded", True), ("key-compromise", False)]
    out = said(capsys, "revoke", "worker-1", *A)
    assert out.count("was revoked before") == 2
    assert "zkp admin revoke" not in out
    assert answer(capsys, "show", "worker-1", *A)["standing"] == "revoked"
    assert [row.split("\t")[-1] for row in said(capsys, "list", *A).splitlines()] == ["revoked", "revoked"]
    assert "is neither a name" in refused(capsys, "revoke", "nobody", *A)


def test_lists_are_signed_and_handed_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Each list has a number, what it names, and an end; the bundle holds them."""
    made = {one["name"]: one for one in answer(capsys, "crl", *A, "--days", "60")}
    assert set(made) == {"issuer", "root"}
    assert (made["issuer"]["number"], made["issuer"]["revoked"]) == (2, 0)
    assert datetime.fromisoformat(made["issuer"]["next_update"]) > datetime.now(UTC) + timedelta(days=59)
    assert "list 3 of issuer: 0 revoked, until" in said(capsys, "crl", *A)
    assert answer(capsys, "bundle", *A, "--out", "dist") == ["dist/ca.pem", "dist/crl.pem"]
    assert said(capsys, "bundle", *A, "--out", "dist") == "dist/ca.pem\ndist/crl.pem\n"


def test_looking_warns_before_a_list_ends(capsys: pytest.CaptureFixture[str], later: Callable[[int], None]) -> None:
    """A week before peers would refuse each other, whoever looks is told."""
    later(22)
    assert main(["list", *A]) == 0
    assert capsys.readouterr().err == ""
    later(23)
    assert main(["list", *A]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: the revocation list of issuer ends at")
    assert err.endswith("peers refuse each other: pki crl\n")


def test_status_is_for_people_and_for_monitors(
    capsys: pytest.CaptureFixture[str], later: Callable[[int], None]
) -> None:
    """A table or JSON of what expires, and exit code 1 once something is late."""
    rows = [line.split("\t") for line in said(capsys, "status", *A).splitlines()]
    assert [row[2] for row in rows] == ["of issuer", "worker-1", "issuer", "of root", "root"]
    found = answer(capsys, "status", *A)
    assert {item["level"] for item in found["items"]} == {"ok"}
    assert found["next"] is None
    assert "late\tworker\tworker-1" in said(capsys, "status", "--within", "31d", *A, code=1)
    later(40)
    assert main(["status", *A, "--json"]) == 1
    assert '"level": "expired"' in capsys.readouterr().out
    assert "span 'x'" in refused(capsys, "status", "--within", "x", *A)


def test_a_table_on_a_terminal_has_headings_and_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is late stands out for people."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["status", "--within", "31d", *A]) == 1
    out = capsys.readouterr().out
    assert "expires (UTC)" in out
    assert "\x1b[1;31mlate" in out
    assert "\x1b[32mok" in out


def test_verify_says_everything_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """A good directory, file and expectation pass; each fault is a line, and the exit code 1."""
    assert "is good: spiffe://zkp.local/worker/worker-1" in said(capsys, "verify", "certs/worker-1", *A)
    found = answer(capsys, "verify", "certs/worker-1/certificate.pem", "--host", "127.0.0.1", "--role", "worker")
    assert found["ok"]
    assert len(found["chain"]) == 3
    out = said(capsys, "verify", "certs/worker-1", "--host", "10.0.0.1", "--name", "x", "--at", "+31d", code=1)
    assert [line.split(": ", 1)[0] for line in out.splitlines()] == ["certs/worker-1/certificate.pem"] * 4
    for reason in ("expired at", "does not cover 10.0.0.1", "not x", "a list of"):
        assert reason in out
    Path("certs/worker-1/key.pem").chmod(0o644)
    assert "open to others" in said(capsys, "verify", "certs/worker-1", code=1)
    assert "No such file" in refused(capsys, "verify", "nowhere")
    Path("alone.pem").write_bytes(Path("certs/worker-1/certificate.pem").read_bytes())
    assert "give the trusted roots with --ca" in refused(capsys, "verify", "alone.pem")
    bundle = ["--ca", "certs/worker-1/ca.pem", "--crl", "certs/worker-1/crl.pem"]
    assert "is good" in said(capsys, "verify", "alone.pem", *bundle)
    assert "alone.pem holds something other" in refused(capsys, "verify", "alone.pem", *A, "--crl", "alone.pem")
    main(["revoke", "worker-1", *A])
    assert "it was revoked at" in said(capsys, "verify", "alone.pem", *A, code=1)


def test_a_deployment_is_tried_before_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    """Today nothing breaks; in 31 days each link does, and is named."""
    main(["issue", "--inventory", "hosts.yml", "--missing", *A, "--out", "certs"])
    simulate = ["simulate", "--inventory", "hosts.yml", "--certs", "certs", "--at"]
    assert said(capsys, *simulate, "+1d").endswith("0 of 2 links break\n")
    out = said(capsys, *simulate, "+31d", code=1)
    assert "leaf: worker-2 CN=worker-2" in out
    assert "  breaks worker-2 → coordinator-1 (127.0.0.1)\n" in out
    found = answer(capsys, *simulate, "+31d", code=1)
    assert found["links"] == 2
    assert {"from": "worker-2", "to": "coordinator-1", "address": "127.0.0.1"} in found["breaks"][0]["links"]
    assert "time 'x'" in refused(capsys, *simulate, "x")


def test_the_issuing_ca_is_rotated_by_four_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Each says what comes next, and afterwards the old certificate is revoked."""
    first = answer(capsys, "rotate-issuer", *A)
    assert [one["name"] for one in first["ready"]] == ["issuer-2"]
    assert "--switch" in first["next"]
    assert "next: issuer-2 is prepared" in said(capsys, "status", *A)
    assert "issuer-2 (CN=issuing CA" in said(capsys, "rotate-issuer", "--switch", *A)
    assert "worker-1 would be cut off" in refused(capsys, "rotate-issuer", "--finish", *A)
    main(["renew", "--due", *A, "--out", "certs"])
    out = said(capsys, "rotate-issuer", "--finish", *A)
    assert out.startswith("issuer (CN=issuing CA")
    assert out.endswith("next: hand out `pki bundle` everywhere\n")
    assert "no rotation is under way" in refused(capsys, "rotate-issuer", "--finish", *A)
    assert "whole: " in said(capsys, "audit", *A)


def test_the_root_is_rotated_by_four_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new root's key is encrypted like the first, and the old one's is not needed."""
    Path("ca/root.key").unlink()
    assert "PKI_PASSPHRASE" in refused(capsys, "rotate-root", *A)
    monkeypatch.setenv("PKI_PASSPHRASE", "short")
    assert "shorter than 8" in refused(capsys, "rotate-root", *A)
    monkeypatch.setenv("PKI_PASSPHRASE", "correct horse")
    out = said(capsys, "rotate-root", *A)
    assert "new root's key in ca/root-2.key: move it" in out
    assert b"ENCRYPTED" in Path("ca/root-2.key").read_bytes()
    main(["rotate-root", "--switch", *A])
    main(["renew", "--due", *A, "--out", "certs"])
    found = answer(capsys, "rotate-root", "--finish", *A)
    assert [one["name"] for one in found["retired"]] == ["issuer", "root"]
    TlsMaterial.load(TlsFiles.in_directory(Path("certs/worker-1")))
    assert main(["rotate-issuer", *A]) == 0  # with the new root's key and passphrase


def test_the_root_key_is_asked_for_where_it_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong passphrase and a key that was moved away are one line each."""
    monkeypatch.setenv("PKI_PASSPHRASE", "correct horse")
    main(["init", "safe", "--trust-domain", "zkp.local"])
    Path("safe/root.key").rename("offline.key")
    assert "--root-key" in refused(capsys, "rotate-issuer", "-a", "safe")
    monkeypatch.setenv("PKI_PASSPHRASE", "wrong horse")
    assert "passphrase" in refused(capsys, "rotate-issuer", "-a", "safe", "--root-key", "offline.key")
    monkeypatch.setenv("PKI_PASSPHRASE", "correct horse")
    assert main(["rotate-issuer", "-a", "safe", "--root-key", "offline.key"]) == 0


def test_the_audit_lists_and_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    """Who did what and when; a head to note; and exit code 1 when the record is not whole."""
    main(["revoke", "worker-1", "--reason", "superseded", *A])
    rows = [line.split("\t") for line in said(capsys, "audit", *A).splitlines()[:-1]]
    assert [row[1] for row in rows] == [
        *("created", "created", "crl 1", "crl 1"),
        *("issued", "revoked (superseded)", "crl 2"),
    ]
    assert {row[4] for row in rows} == {common.user()}
    found = answer(capsys, "audit", *A)
    assert found["whole"]
    assert answer(capsys, "audit", "--head", found["head"], *A)["whole"]
    ledger = Path("ca/ledger.jsonl")
    ledger.write_bytes(ledger.read_bytes() + b'{"half')
    assert "truncated last line" in said(capsys, "audit", *A)
    out = said(capsys, "audit", "--head", "0" * 64, *A, code=1)
    assert "fault: ledger does not contain 000" in out
    assert "1 fault: 7 events" in out


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """The script for a shell is printed or installed by an option."""
    out = said(capsys, "--help")
    assert "--install-completion" in out
    assert "--show-completion" in out
