"""The `pki` command as users call it."""

import json
import os
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from pki.cli import main
from pki.commands.common import app
from pki.tls.material import TlsFiles, TlsMaterial
from pki.x509.identity import Role
from tests.unit.pki.commands import INIT, ISSUE, refused

COMMANDS = [
    "init",
    "issue",
    "request",
    "sign",
    "renew",
    "revoke",
    "crl",
    "list",
    "show",
    "status",
    "verify",
    "rotate-issuer",
    "rotate-root",
    "bundle",
    "audit",
    "simulate",
]


pytestmark = pytest.mark.usefixtures("empty_place")


def test_an_issued_identity_is_what_daemons_load(capsys: pytest.CaptureFixture[str]) -> None:
    """Init and issue, as in the README, make files that a daemon accepts."""
    assert main(INIT) == 0
    assert main(ISSUE) == 0
    material = TlsMaterial.load(TlsFiles.in_directory(Path("certs/worker-1")))
    assert material.identity.role == Role.WORKER
    out = capsys.readouterr().out
    assert "development only: the root's key is not encrypted" in out
    assert "worker worker-1 until" in out


def test_the_root_is_encrypted_unless_development_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A plain root key takes two flags; one alone is a usage error, none needs a passphrase."""
    init = INIT[:4]
    assert "go together" in refused(capsys, *init, "--no-passphrase", code=2)
    assert "go together" in refused(capsys, *init, "--development", code=2)
    assert "PKI_PASSPHRASE" in refused(capsys, *init)
    assert not Path("ca").exists()


@pytest.mark.parametrize("source", ["file", "variable", "prompt"])
def test_the_passphrase_comes_from_file_variable_or_prompt(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All three ways encrypt the root's key, and none shows the passphrase."""
    options = []
    if source == "file":
        Path("phrase").write_text("correct horse\n")
        Path("phrase").chmod(0o600)
        options = ["--passphrase-file", "phrase"]
    elif source == "variable":
        monkeypatch.setenv("PKI_PASSPHRASE", "correct horse")
    else:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("typer.prompt", lambda *_, **__: "correct horse")
    assert main([*INIT[:4], *options]) == 0
    assert b"ENCRYPTED" in Path("ca/root.key").read_bytes()
    captured = capsys.readouterr()
    assert "correct horse" not in captured.out + captured.err
    assert "safe place offline" in captured.out


def test_a_weak_or_open_passphrase_file_isrefused(capsys: pytest.CaptureFixture[str]) -> None:
    """A passphrase that others can read or guess protects nothing."""
    file = Path("phrase")
    file.write_text("short")
    file.chmod(0o600)
    assert "shorter than 8" in refused(capsys, *INIT[:4], "--passphrase-file", "phrase")
    file.chmod(0o644)
    assert "open to others" in refused(capsys, *INIT[:4], "--passphrase-file", "phrase")
    assert "exclude each other" in refused(capsys, *INIT, "--passphrase-file", "phrase", code=2)


@pytest.mark.parametrize("source", ["file", "variable"])
def test_the_passphrase_is_bounded_when_set_and_when_read(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenSSL takes 1,023 bytes: a longer passphrase is refused with that number, an empty one as empty."""

    def give(phrase: bytes) -> list[str]:
        if source == "variable":
            monkeypatch.setenv("PKI_PASSPHRASE", os.fsdecode(phrase))
            return []
        Path("phrase").write_bytes(phrase)
        Path("phrase").chmod(0o600)
        return ["--passphrase-file", "phrase"]

    longest, too_long = "é".encode() * 511 + b"x", "é".encode() * 512
    why = "passphrase has 1024 bytes, and OpenSSL accepts at most 1023: take a shorter one"
    assert why in refused(capsys, *INIT[:4], *give(too_long))
    assert "passphrase is empty" in refused(capsys, *INIT[:4], *give(b""))
    assert not Path("ca").exists()
    assert main([*INIT[:4], *give(longest)]) == 0
    assert why in refused(capsys, "rotate-issuer", "-a", "ca", *give(too_long))
    assert "passphrase is empty" in refused(capsys, "rotate-issuer", "-a", "ca", *give(b""))
    assert main(["rotate-issuer", "-a", "ca", *give(longest)]) == 0


def test_a_passphrase_that_is_no_text_is_the_same_from_file_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 in the variable end in no traceback."""
    phrase = b"correct \xff horse"
    monkeypatch.setenv("PKI_PASSPHRASE", os.fsdecode(phrase))
    assert main(INIT[:4]) == 0
    Path("phrase").write_bytes(phrase)
    Path("phrase").chmod(0o600)
    assert main(["rotate-issuer", "-a", "ca", "--passphrase-file", "phrase"]) == 0


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "Missing command"),
        (["nonsense"], "No such command"),
        (["issue", "-a", "ca"], "Missing NAME or --role"),
        (["issue", "--inventory", "hosts.yml", "--role", "worker", "-a", "ca"], "--inventory gives"),
        ([*ISSUE, "--missing"], "--missing belongs to --inventory"),
        (["renew", "-a", "ca"], "give names, or --due"),
        (["renew", "worker-1", "--due", "-a", "ca"], "give names, or --due"),
        (["revoke", "-a", "ca"], "give some, or --superseded"),
        (["revoke", "worker-1", "--reason", "boredom", "-a", "ca"], "'boredom' is not one of 'unspecified'"),
        (["rotate-issuer", "--switch", "--finish", "-a", "ca"], "two steps"),
        (["rotate-root", "--force", "-a", "ca"], "--force belongs to --finish"),
        (["rotate-issuer", "--finish", "--domain", "x.example", "-a", "ca"], "belong to the first step"),
        (["simulate", "--at", "+30d"], "Missing option '--inventory'"),
        ([*ISSUE, "--role", "king"], "'king' is not one of 'coordinator'"),
        (["issue", "worker-1", "--role", "worker"], "--authority"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped command is answered in one line that points to the help."""
    line = refused(capsys, *argv, code=2)
    assert reason in line
    assert "--help" in line


def test_failures_are_exit_code_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What is refused says what to do instead, and leaves no traceback."""
    assert "`pki init" in refused(capsys, *ISSUE)
    assert main(INIT) == 0
    assert "already exists" in refused(capsys, *INIT)
    assert "permit its network" in refused(capsys, *ISSUE, "--host", "8.8.8.8")
    assert "permit its domain" in refused(capsys, *ISSUE, "--host", "evil.example")
    assert "at most 30 days" in refused(capsys, *ISSUE, "--days", "31")
    assert main(ISSUE) == 0
    assert "--replace" in refused(capsys, *ISSUE)
    assert main([*ISSUE, "--replace"]) == 0


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Init, issue, list and show print one JSON document each."""
    answers = {}
    for command in (INIT, ISSUE, ["list", "--authority", "ca"], ["show", "worker-1", "--authority", "ca"]):
        assert main([*command, "--json"]) == 0
        answers[command[0]] = json.loads(capsys.readouterr().out)
    assert len(answers["init"]["root_sha256"]) == 64
    assert answers["issue"][0]["identity"] == "spiffe://zkp.local/worker/worker-1"
    assert Path(answers["issue"][0]["key"]).is_file()
    assert answers["list"] == [answers["show"]]
    assert answers["show"]["serial"] == answers["issue"][0]["serial"]
    assert answers["show"]["hosts"] == ["127.0.0.1", "worker-1.zkp.local"]
    assert answers["show"]["good_for"] == ["serving", "dialling"]
    assert answers["show"]["issuer"].startswith("CN=issuing CA ")


def test_a_list_in_a_pipe_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a certificate, tabs between, the first to expire first."""
    main(INIT)
    main(ISSUE)
    main(["issue", "ann", "--role", "admin", "--days", "7", "-a", "ca", "--out", "certs"])
    capsys.readouterr()
    assert main(["list", "-a", "ca"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows] == [
        ["ann", "admin", "ann.zkp.local"],
        ["worker-1", "worker", "127.0.0.1 worker-1.zkp.local"],
    ]


def test_a_certificate_is_found_by_name_and_by_serial(capsys: pytest.CaptureFixture[str]) -> None:
    """A name means its newest certificate; a serial number, as openssl writes it, means one."""
    main(INIT)
    main([*ISSUE, "--json"])
    main([*ISSUE, "--replace", "--json"])
    capsys.readouterr()
    main(["list", "-a", "ca", "--json"])
    serials = [entry["serial"] for entry in json.loads(capsys.readouterr().out)]
    for which, serial in (
        ("worker-1", serials[-1]),
        (serials[0].upper(), serials[0]),
        ("0" + serials[0], serials[0]),
    ):
        assert main(["show", which, "-a", "ca", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["serial"] == serial
    assert main(["show", "worker-1", "-a", "ca"]) == 0
    assert "BEGIN CERTIFICATE" in capsys.readouterr().out
    assert "neither a name nor a serial" in refused(capsys, "show", "nobody", "-a", "ca")


def test_no_command_is_left_out_here() -> None:
    """What is said below of every command is said of all that there are."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    assert sorted(program.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_begins_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing after the usage line is something to copy, and programs find their option."""
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    assert lines[1] == "Example:"
    assert lines[2].startswith(f"pki {command} ")
    assert "--json" in out
