"""The digest by which a repeated submission is recognised."""

import hashlib
from collections.abc import Iterable


def submission_digest(circuit: str, inputs: bytes, public_inputs: Iterable[str]) -> bytes:
    """SHA-256 over what a submission asks for, each part length-prefixed so that none can pass for another."""
    parts = [circuit.encode(), inputs, *map(str.encode, public_inputs)]
    return hashlib.sha256(
        b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])
    ).digest()
