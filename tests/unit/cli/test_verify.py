"""`zkp verify` on untrusted files: a one-line error with the file's name for any content."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.proofs.test_verifying_key import FORGEABLE
from tests.unit.proofs.test_verifying_key import KEY as DOCUMENT
from zkp.cli import app

KEY = Path(__file__).parents[2] / "integration" / "proofs" / "ceremony" / "verification_key.json"
HOSTILE = {
    "a doubled key": (b'{"circuit": "addition", "circuit": "range_proof"}', 'the key "circuit" is duplicated'),
    "depth": (b"[" * 100_000, "nested too deeply"),
    "a long number": (b'{"circuit": ' + b"9" * 5000 + b"}", "a number has 5000 digits"),
    "NaN": (b'{"circuit": NaN}', "NaN is not JSON"),
    "UTF-16": ('{"circuit": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
    "size": (b" " * (16 * 2**20 + 1), "is larger than 16 MiB"),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_malformed_proof_file_is_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    """Malformed or ambiguous proof files are invalid, without a traceback."""
    proof = tmp_path / "proof.json"
    proof.write_bytes(content)

    assert app.run(["verify", str(proof), "--key", str(KEY)]) == 1

    said = capsys.readouterr().err
    assert said.startswith(f"error: 1 of 1 proofs are not valid; {proof}: ")
    assert reason in said
    assert said.count("\n") == 1


def test_an_unusable_file_does_not_hide_the_verdict_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file has a row, also in JSON; the exit status is 1 if one is invalid."""
    paths = [tmp_path / "list.json", tmp_path / "other.json"]
    paths[0].write_text("[1]", encoding="utf-8")
    paths[1].write_text("{}", encoding="utf-8")

    assert app.run(["verify", *map(str, paths), "--key", str(KEY), "--json"]) == 1

    out, err = capsys.readouterr()
    assert [(one["file"], one["valid"]) for one in json.loads(out)] == [(str(path), False) for path in paths]
    assert "2 of 2 proofs are not valid" in err


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_key_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    """The error names the file that is not a verifying key."""
    key = tmp_path / "key.json"
    key.write_bytes(content)

    assert app.run(["verify", "proof.json", "--key", str(KEY), "--key", str(key)]) == 1

    said = capsys.readouterr().err
    assert said.startswith(f"error: {key}: ")
    assert reason in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("change", "words"), FORGEABLE.values(), ids=FORGEABLE)
def test_a_key_with_which_proofs_can_be_forged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    """With an invalid key no proof is checked."""
    key = tmp_path / "key.json"
    key.write_text(json.dumps(DOCUMENT | change), encoding="utf-8")

    assert app.run(["verify", "proof.json", "--key", str(key)]) == 1

    said = capsys.readouterr().err
    assert re.match(f"error: {re.escape(str(key))}: not a usable verifying key: {words}", said)
    assert said.count("\n") == 1
