"""A Groth16 proof over BN254 in two forms: 256 bytes as Ethereum encodes it, and snarkjs' JSON object.

Also the points of snarkjs' JSON one by one, as verifying keys hold them.

Bytes: A.x A.y B.x1 B.x0 B.y1 B.y0 C.x C.y, 32 bytes each, big-endian; an element of the quadratic
extension is c0 + c1·u, and the bytes have c1 first while snarkjs has c0 first.
"""

import re
from collections.abc import Sequence

from zkp.proofs.errors import DocumentError

# Order of the base field, q in the BN254 literature: coordinates of points lie in [0, BASE_ORDER).
BASE_ORDER = 21888242871839275222246405745257275088696311157297823662689037894645226208583
PROOF_BYTES = 256
_WORD_BYTES = 32
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_FIELDS = {"pi_a", "pi_b", "pi_c", "protocol", "curve"}


def to_object(proof: bytes) -> dict[str, object]:
    """The snarkjs object of a proof of PROOF_BYTES bytes; ValueError for another length."""
    if len(proof) != PROOF_BYTES:
        raise ValueError(f"a proof has {PROOF_BYTES} bytes, not {len(proof)}")
    values = [
        str(int.from_bytes(proof[start : start + _WORD_BYTES], "big")) for start in range(0, PROOF_BYTES, _WORD_BYTES)
    ]
    return {
        "pi_a": [values[0], values[1], "1"],
        "pi_b": [[values[3], values[2]], [values[5], values[4]], ["1", "0"]],
        "pi_c": [values[6], values[7], "1"],
        "protocol": "groth16",
        "curve": "bn128",
    }


def coordinates(document: object) -> tuple[int, ...]:
    """The eight coordinates of a snarkjs object, in the order of the bytes, whatever their size.

    DocumentError, naming the field below "proof", when the object does not have its shape.
    """
    if not isinstance(document, dict) or set(document) != _FIELDS:
        raise DocumentError(f"proof: must be an object with exactly {', '.join(sorted(_FIELDS))}")
    for name, expected in (("protocol", "groth16"), ("curve", "bn128")):
        if document[name] != expected:
            raise DocumentError(f"proof.{name}: must be {expected!r}")
    a = g1_point("proof.pi_a", document["pi_a"])
    x, y = g2_point("proof.pi_b", document["pi_b"])
    c = g1_point("proof.pi_c", document["pi_c"])
    return *a, *reversed(x), *reversed(y), *c


def to_bytes(document: object) -> bytes:
    """The PROOF_BYTES bytes of a snarkjs object; DocumentError for a wrong shape or coordinate."""
    values = coordinates(document)
    if max(values) >= BASE_ORDER:
        raise DocumentError("proof: a coordinate is not below the base field's order")
    return b"".join(value.to_bytes(_WORD_BYTES, "big") for value in values)


def g1_point(path: str, value: object) -> tuple[int, int]:
    """The coordinates of an affine point of G1, whatever their size; DocumentError names `path`."""
    x, y, _ = _numbers(path, value, ("x", "y", "1"))
    return x, y


def g2_point(path: str, value: object) -> tuple[tuple[int, int], tuple[int, int]]:
    """The coordinates of an affine point of G2, each as (c0, c1), whatever their size; DocumentError names `path`."""
    if not isinstance(value, list) or len(value) != 3:
        raise DocumentError(f"{path}: must be a list of three pairs")
    x0, x1 = _numbers(f"{path}[0]", value[0], ("x0", "x1"))
    y0, y1 = _numbers(f"{path}[1]", value[1], ("y0", "y1"))
    _numbers(f"{path}[2]", value[2], ("1", "0"))
    return (x0, x1), (y0, y1)


def _numbers(path: str, value: object, names: Sequence[str]) -> list[int]:
    """Decimal strings, one a name; where the name is a number itself, that very number."""
    if not isinstance(value, list) or len(value) != len(names):
        raise DocumentError(f"{path}: must be a list of {len(names)} decimal strings")
    numbers = []
    for index, (text, name) in enumerate(zip(value, names, strict=True)):
        if not isinstance(text, str) or _DECIMAL.fullmatch(text) is None:
            raise DocumentError(f"{path}[{index}]: must be a decimal string of at most 78 digits")
        if name.isdecimal() and text != name:
            raise DocumentError(f"{path}[{index}]: must be {name!r}")
        numbers.append(int(text))
    return numbers
