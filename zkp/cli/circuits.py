"""`zkp circuits …`: make, list, export and import circuit keys."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from zkp.cli import output
from zkp.cli.errors import UsageProblem
from zkp.client import task_json
from zkp.proofs import circuits
from zkp.proofs.keys import KeyRecord, KeyStore

app = typer.Typer(
    short_help="Make, list, export and import circuit keys.",
    help="Example: zkp circuits build --keys keys\n\n"
    "Keys are made once per circuit and copied to every machine: coordinators need the verifying keys, workers "
    "also the proving keys, and verifiers the exported verification_key.json.",
)

Keys = Annotated[Path, typer.Option(metavar="DIR", help="Directory of the keys.")]
Circuit = Annotated[str, typer.Argument(metavar="CIRCUIT", help=f"Circuit: one of {', '.join(circuits.NAMES)}.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLUMNS = ("circuit", "origin", "constraints", "verifying key (sha256)", "proving key", "made")


@app.command(short_help="Make development keys.")
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CIRCUIT…]", help="Circuits; default: all without keys.")
    ] = None,
    *,
    keys: Keys,
) -> None:
    """Example: zkp circuits build --keys keys

    Make keys by a single-party setup, for development only: the party could forge proofs with the values that it
    learns. Existing keys are never replaced.
    """
    store = KeyStore(keys)
    existing = {record.name for record in store.list()}
    for name in names or [name for name in circuits.NAMES if name not in existing]:
        output.note(f"making development keys of {name} (takes some seconds)")
        record = store.build(name)
        output.line(f"{name} {record.verifying_key_sha256} {record.label}")


@app.command(name="list", short_help="List the keys in a directory.")
def list_keys(*, keys: Keys, as_json: Json = False) -> None:
    """Example: zkp circuits list --keys keys

    List the circuits that have keys in this directory. The keys are checked against their fingerprints.
    """
    store = KeyStore(keys)
    store.verifying_keys()
    if as_json:
        output.as_json([_to_json(record) for record in store.list()])
    else:
        output.table("Circuits", _COLUMNS, [_row(store, record) for record in store.list()])


@app.command(short_help="Write a verification_key.json.")
def export(
    circuit: Circuit,
    *,
    keys: Keys,
    out: Annotated[Path, typer.Option(metavar="PATH", help="Output file or directory.")] = Path(),
) -> None:
    """Example: zkp circuits export merkle_proof --keys keys --out verification_key.json

    Write the verifying key in the format of snarkjs. It is all that is needed to verify the circuit's proofs.
    """
    output.line(str(KeyStore(keys).export(circuit, out)))


@app.command(name="import", short_help="Import the keys of a ceremony.")
def import_keys(
    circuit: Circuit,
    zkey: Annotated[Path, typer.Argument(metavar="ZKEY", help="The ceremony's final .zkey file.")],
    *,
    keys: Keys,
) -> None:
    """Example: zkp circuits import merkle_proof merkle_proof_final.zkey --keys keys

    Import the keys of a ceremony after testing them. Keys without a contribution are refused. Check yourself that the
    contributions are the expected ones: `snarkjs zkey verify` lists them with their hashes, and reports "ZKey Ok!"
    even for a key without contributions.
    """
    if not zkey.is_file():
        raise UsageProblem(f"{zkey}: is not a file; give the ceremony's final .zkey")
    record = KeyStore(keys).import_zkey(circuit, zkey)
    output.line(f"{record.name} {record.verifying_key_sha256} {record.label}")


def _to_json(record: KeyRecord) -> dict[str, object]:
    """Return the key's record, with its time in the format of all JSON output."""
    created = datetime.fromisoformat(record.created_at)
    return {**record.model_dump(mode="json"), "created_at": task_json.timestamp(created)}


def _row(store: KeyStore, record: KeyRecord) -> tuple[object, ...]:
    proving = "yes" if store.can_prove(record.name) else "no"
    constraints = record.constraints or ""
    return record.name, record.label, constraints, record.verifying_key_sha256, proving, record.created_at
