"""The example list that comes with the project."""

import csv
import hashlib
from pathlib import Path

from zkp.cli.demo.demo import example_entries
from zkp.proofs import circuits

ALLOWLIST = Path(__file__).parents[3] / "examples" / "allowlist.csv"


def test_allowlist_is_what_the_recipe_makes() -> None:
    """A header and 1,000 different addresses: the first 20 bytes of SHA-256("member N"), N from 1."""
    with ALLOWLIST.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["address"]
    expected = [f"0x{hashlib.sha256(f'member {number}'.encode()).hexdigest()[:40]}" for number in range(1, 1001)]
    assert [row[0] for row in rows] == expected
    assert len(set(expected)) == 1000
    assert example_entries() == expected  # what the demo takes outside a checkout


def test_allowlist_entries_are_leaves() -> None:
    """Its entries can be proved members as they stand."""
    entries = ALLOWLIST.read_text(encoding="utf-8").split()[1:]
    prepared = circuits.prepare("merkle_proof", {"leaves": entries[:5], "leaf_index": 4})
    circuits.check("merkle_proof", prepared.inputs, prepared.public_inputs)
