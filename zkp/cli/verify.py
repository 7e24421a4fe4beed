"""`zkp verify`: verify proofs with the verifying key alone, without cluster or certificate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zkp.cli import files, output
from zkp.cli.errors import CommandFailed
from zkp.proofs import DocumentError, document, verifying_key
from zkp.proofs.document import VerifyResult

_COLUMNS = ("proof", "circuit", "verdict", "public inputs")


def verify(
    proofs: Annotated[list[Path], typer.Argument(metavar="PROOF…", help="Proof files.")],
    *,
    key: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="verification_key.json of the circuit; repeat it for more circuits."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Example: zkp verify proof.json --key verification_key.json

    Verify proofs. Needs only the proof files and the circuit's verifying key from a source that you trust. With
    several keys, each proof is checked against the one it names. Fails unless every proof is valid.
    """
    keys = dict(_key(path) for path in key)
    results = {path: _verdict(path, keys) for path in proofs}
    if as_json:
        output.as_json([_to_json(path, result) for path, result in results.items()])
    else:
        output.table("Proofs", _COLUMNS, [_row(path, result) for path, result in results.items()])
    invalid = [f"{path}: {result.reason}" for path, result in results.items() if not result.valid]
    if invalid:
        raise CommandFailed(f"{len(invalid)} of {len(results)} proofs are not valid; {invalid[0]}")
    output.note(f"{len(results)} valid: {_statements(list(results.values()))}")


def _key(path: Path) -> tuple[str, str]:
    """Return the fingerprint and the text of a verifying key file."""
    text = files.read_text(path)
    try:
        return verifying_key.parse(text).sha256, text
    except DocumentError as error:
        raise CommandFailed(f"{path}: {error}") from None


def _verdict(path: Path, keys: dict[str, str]) -> VerifyResult:
    """Return the result for one file; an unreadable file is invalid, so that the other files still get a result."""
    try:
        return _check(path, keys)
    except CommandFailed as error:
        reason = str(error).removeprefix(f"{files.label(path)}: ")
        return VerifyResult(valid=False, reason=reason, task_id="", circuit="", public_inputs={}, statement="")


def _check(path: Path, keys: dict[str, str]) -> VerifyResult:
    proof = files.read_json(path, "give a proof file")
    named = proof.get("verifying_key_sha256") if isinstance(proof, dict) else None
    # A proof for none of the keys is checked against the first, which yields the mismatch as the reason.
    key = keys.get(named, "") if isinstance(named, str) else ""
    try:
        return document.verify_document(proof, key or next(iter(keys.values())))
    except DocumentError as error:
        raise CommandFailed(f"{path}: {error}") from None


def _row(path: Path, result: VerifyResult) -> tuple[str, ...]:
    stated = ", ".join(f"{name}={value}" for name, value in result.public_inputs.items())
    return str(path), result.circuit, "valid" if result.valid else f"NOT VALID: {result.reason}", stated


def _to_json(path: Path, result: VerifyResult) -> dict[str, object]:
    return {
        "file": str(path),
        "valid": result.valid,
        "reason": result.reason,
        "task_id": result.task_id,
        "circuit": result.circuit,
        "statement": result.statement,
        "public_inputs": dict(result.public_inputs),
    }


def _statements(results: Sequence[VerifyResult]) -> str:
    return "; ".join(dict.fromkeys(result.statement for result in results))
