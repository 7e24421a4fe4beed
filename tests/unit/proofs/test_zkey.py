"""What a file is that someone wants to import: told from its first bytes, before the prover library reads it."""

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from zkp.proofs import KeyStoreError
from zkp.proofs.field import ORDER
from zkp.proofs.snarkjs import BASE_ORDER
from zkp.proofs.zkey import read_head

BLS12_381_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


def binary(magic: bytes, sections: Mapping[int, bytes]) -> bytes:
    """A file as snarkjs lays it out."""
    body = b"".join(struct.pack("<IQ", number, len(content)) + content for number, content in sections.items())
    return magic + struct.pack("<II", 1, len(sections)) + body


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def groth16(wires: int = 129, public_inputs: int = 1, scalar: int = ORDER) -> bytes:
    """The head of a Groth16 key; what follows it is never read here."""
    orders = b"".join(numbers(32) + order.to_bytes(32, "little") for order in (BASE_ORDER, scalar))
    return orders + numbers(wires, public_inputs, 256) + bytes(2000)


FOREIGN = {
    "PLONK": (binary(b"zkey", {3: bytes(5000), 1: numbers(2)}), "is a key for PLONK, .* `snarkjs groth16 setup`"),
    "FFLONK": (binary(b"zkey", {1: numbers(10), 3: b""}), "is a key for FFLONK, .* proves with Groth16"),
    "later": (binary(b"zkey", {1: numbers(77)}), "is a key for an unknown protocol"),
    "curve": (
        binary(b"zkey", {1: numbers(1), 2: groth16(scalar=BLS12_381_ORDER)}),
        "is a key over another curve, .*; compile for bn128",
    ),
    "powers": (binary(b"ptau", {1: bytes(44), 7: numbers(3)}), r"is a powers of tau file \(phase 1\), .*; make the"),
    "no powers": (
        binary(b"ptau", {7: numbers(0)}),
        "is a powers of tau file without a contribution, .*; contribute to",
    ),
    "circuit": (binary(b"r1cs", {}), "is a compiled circuit, not a key; make the circuit's key"),
    "witness": (binary(b"wtns", {}), "is a witness, not a key"),
    "text": (b'{"protocol": "groth16"}', "is not a .zkey file of snarkjs; give"),
    "nothing": (b"", "is not a .zkey file of snarkjs; give"),
    "magic alone": (b"zkey", "is cut off or damaged; copy it again"),
    "no sections": (binary(b"zkey", {}), "is cut off or damaged"),
    "short head": (binary(b"zkey", {1: numbers(1), 2: groth16()[:70]}), "is cut off or damaged"),
    "cut in the head": (binary(b"zkey", {1: numbers(1), 2: groth16()})[:108], "is cut off or damaged"),
    "endless sections": (b"zkey" + numbers(1, 2**32 - 1) + bytes(12) * 100, "is cut off or damaged"),
    "powers cut off": (binary(b"ptau", {7: b""}), "is cut off or damaged"),
}


@pytest.mark.parametrize(("content", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_groth16_key_is_named_with_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    """One line with the file, what it is, and how to come to a key."""
    path = tmp_path / "final.zkey"
    path.write_bytes(content)
    with pytest.raises(KeyStoreError, match=f"^{re.escape(str(path))}: (?:{words})") as refused:
        read_head(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The reason is the system's own."""
    with pytest.raises(KeyStoreError, match=r"none\.zkey: cannot be read: No such file"):
        read_head(tmp_path / "none.zkey")


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_a_groth16_key_says_how_large_its_circuit_is(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Sections come in any order, and large ones are passed over."""
    sections = {1: numbers(1), 2: groth16(wires=560, public_inputs=3), 3: bytes(100_000)}
    path = tmp_path / "final.zkey"
    path.write_bytes(binary(b"zkey", {number: sections[number] for number in order}))
    assert read_head(path) == (560, 3)
