"""Header of a snarkjs .zkey file: its kind, known before the prover library reads it.

snarkjs' binary files begin with four letters, a version and the number of sections; each section has an id, a size
and its content. Numbers are little-endian. Section 1 of a .zkey names the protocol; section 2, of Groth16, holds the
curve's two orders, each after its length, and the circuit's numbers.
"""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zkp.proofs.errors import KeyStoreError
from zkp.proofs.field import ORDER
from zkp.proofs.snarkjs import BASE_ORDER

_MAGIC_BYTES = 4
_MAX_SECTIONS = 64
_HEAD_BYTES = 1024  # of a section: more than what is read of any
_GROTH16, _OTHER_PROTOCOLS = 1, {2: "PLONK", 10: "FFLONK"}
_POWERS_CONTRIBUTIONS = 7  # the section of a powers of tau file that begins with their number
_MAKE_KEY = "make the circuit's key with `snarkjs groth16 setup` and `snarkjs zkey contribute`"
_OTHER_FILES = {
    b"r1cs": f"is a compiled circuit, not a key; {_MAKE_KEY}",
    b"wtns": "is a witness, not a key, and holds private inputs; give the ceremony's final .zkey",
}


class Head(NamedTuple):
    """What a Groth16 key over BN254 says of its circuit."""

    wires: int  # signals after optimisation, with the constant 1
    public_inputs: int


def read_head(path: Path) -> Head:
    """The head of a Groth16 .zkey over BN254. KeyStoreError says what any other file is, and what to do."""
    try:
        with path.open("rb") as file:
            return _head(file)
    except OSError as error:
        raise KeyStoreError(f"{path}: cannot be read: {error.strerror}") from None
    except struct.error:
        raise KeyStoreError(f"{path}: is cut off or damaged; copy it again") from None
    except _NotAKeyError as error:
        raise KeyStoreError(f"{path}: {error}") from None


class _NotAKeyError(Exception):
    """What the file is instead, and what to do."""


def _head(file: BinaryIO) -> Head:
    magic = file.read(_MAGIC_BYTES)
    if magic == b"ptau":
        raise _NotAKeyError(_powers(_sections(file)))
    if magic != b"zkey":
        raise _NotAKeyError(
            _OTHER_FILES.get(magic, "is not a .zkey file of snarkjs; give the ceremony's final .zkey")
        )
    sections = _sections(file)
    (protocol,) = struct.unpack_from("<I", sections.get(1, b""))
    if protocol != _GROTH16:
        name = _OTHER_PROTOCOLS.get(protocol, "an unknown protocol")
        raise _NotAKeyError(f"is a key for {name}, and this network proves with Groth16; {_MAKE_KEY}")
    body = io.BytesIO(sections.get(2, b""))
    if (_order(body), _order(body)) != (BASE_ORDER, ORDER):
        cure = "compile for bn128, circom's default, and use powers of tau for bn128"
        raise _NotAKeyError(f"is a key over another curve, and this network proves over BN254 (bn128); {cure}")
    return Head(*struct.unpack("<II", body.read(8)))


def _powers(sections: Mapping[int, bytes]) -> str:
    (contributions,) = struct.unpack_from("<I", sections.get(_POWERS_CONTRIBUTIONS, b""))
    if contributions:
        return f"is a powers of tau file (phase 1), not a circuit's key; {_MAKE_KEY}"
    cure = f"contribute to it with `snarkjs powersoftau contribute`, then {_MAKE_KEY}"
    return f"is a powers of tau file without a contribution, not a circuit's key; {cure}"


def _sections(file: BinaryIO) -> dict[int, bytes]:
    """The first _HEAD_BYTES of every section, by id."""
    _, count = struct.unpack("<II", file.read(8))
    sections = {}
    for _ in range(min(count, _MAX_SECTIONS)):
        number, size = struct.unpack("<IQ", file.read(12))
        sections[number] = file.read(min(size, _HEAD_BYTES))
        file.seek(max(0, size - _HEAD_BYTES), io.SEEK_CUR)
    return sections


def _order(body: BinaryIO) -> int:
    (length,) = struct.unpack("<I", body.read(4))
    (order,) = struct.unpack(f"{min(length, _HEAD_BYTES)}s", body.read(min(length, _HEAD_BYTES)))
    return int.from_bytes(order, "little")
