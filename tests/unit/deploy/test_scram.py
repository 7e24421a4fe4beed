"""What the role postgres stores of a password is what PostgreSQL itself would."""

import io
import json
import runpy
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "ansible/roles/postgres/files/scram.py"
# RFC 7677's example: user "user", password "pencil", 4096 iterations.
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
STORED = (
    f"SCRAM-SHA-256$4096:{SALT}$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def answer(password: str, stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the program prints."""
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"password": password, "stored": stored})))
    runpy.run_path(str(PROGRAM), run_name="__main__")
    return capsys.readouterr().out.strip()


def test_a_right_verifier_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run of the playbook changes nothing: the RFC's own keys are recognised."""
    assert answer("pencil", STORED, monkeypatch, capsys) == ""


@pytest.mark.parametrize("stored", ["", STORED, "md5a0b1c2d3e4f5", STORED[:-4]])
def test_a_wrong_one_is_replaced_by_a_right_one(
    stored: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was stored, the new verifier fits the password, and never shows it."""
    made = answer("another password", stored, monkeypatch, capsys)
    assert made.startswith("SCRAM-SHA-256$4096:")
    assert "another" not in made
    assert answer("another password", made, monkeypatch, capsys) == ""
