"""The proof document: what a client keeps of a task, and anyone can check with the verifying key alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zkp.proofs import circuits, snarkjs, verifying_key
from zkp.proofs.errors import CircuitError, DocumentError
from zkp.proofs.field import from_decimal
from zkp.proofs.groth16 import KeyVerifier
from zkp.protocol.limits import SHA256_PATTERN

_FIELDS = ("circuit", "proof", "public_inputs", "task_id", "verifying_key_sha256")
_SHA256 = re.compile(SHA256_PATTERN)


@dataclass(frozen=True)
class VerifyResult:
    """What a proof document turned out to be worth."""

    valid: bool
    reason: str  # why it is not valid; empty when it is
    circuit: str
    task_id: str
    statement: str  # what the proof shows when it is valid, in a sentence
    public_inputs: Mapping[str, str]  # by name, decimal, in the circuit's order


def document(
    task_id: str, circuit: str, proof: bytes, public_inputs: Sequence[str], vk_sha256: str
) -> dict[str, object]:
    """The proof document of a completed task, ready for json.dump. `proof` has 256 bytes."""
    return {
        "circuit": circuit,
        "proof": snarkjs.to_object(proof),
        "public_inputs": list(public_inputs),
        "task_id": task_id,
        "verifying_key_sha256": vk_sha256,
    }


def verify_document(doc: object, verification_key_json: str) -> VerifyResult:
    """Check a parsed proof document with the text of a verification_key.json.

    DocumentError, naming the field, when either does not have its shape; a false proof, another key or
    points that are none give a result that is not valid, and says why.
    """
    key = verifying_key.parse(verification_key_json)
    verifier = KeyVerifier(key)
    fields = _fields(doc)
    circuit = _circuit(fields["circuit"])
    public_inputs = _public_inputs(circuit, fields["public_inputs"])
    coordinates = snarkjs.coordinates(fields["proof"])
    pinned, task_id = _text(fields, "verifying_key_sha256"), _text(fields, "task_id")
    if _SHA256.fullmatch(pinned) is None:
        raise DocumentError("verifying_key_sha256: must be 64 lower-case hex digits")
    if pinned != key.sha256:
        reason = f"made for the verifying key {pinned[:16]}…, but this key is {key.sha256[:16]}…"
    elif max(coordinates) >= snarkjs.BASE_ORDER:
        reason = "a coordinate of the proof is not below the base field's order"
    elif not verifier.verify(snarkjs.to_bytes(fields["proof"]), public_inputs):
        reason = "the proof does not prove these public inputs"
    else:
        reason = ""
    return VerifyResult(
        valid=not reason,
        reason=reason,
        circuit=circuit.name,
        task_id=task_id,
        statement=circuit.statement,
        public_inputs=dict(zip(circuit.public, public_inputs, strict=True)),
    )


def _fields(doc: object) -> Mapping[str, object]:
    if not isinstance(doc, dict):
        raise DocumentError("not a proof document: expected a JSON object")
    for name in _FIELDS:
        if name not in doc:
            raise DocumentError(f"{name}: is missing; a proof document has {', '.join(_FIELDS)}")
    for name in doc:
        if name not in _FIELDS:
            raise DocumentError(f"{ascii(name)[1:-1][:64]}: is not a field of a proof document")
    return doc


def _circuit(name: object) -> circuits.Circuit:
    if not isinstance(name, str):
        raise DocumentError("circuit: must be a string")
    try:
        return circuits.find(name)
    except CircuitError as error:
        raise DocumentError(f"circuit: {error}") from None


def _text(fields: Mapping[str, object], name: str) -> str:
    text = fields[name]
    if not isinstance(text, str):
        raise DocumentError(f"{name}: must be a string")
    return text


def _public_inputs(circuit: circuits.Circuit, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) != len(circuit.public):
        raise DocumentError(f"public_inputs: must be a list of {len(circuit.public)}: {', '.join(circuit.public)}")
    for index, text in enumerate(value):
        if from_decimal(text) is None:
            raise DocumentError(f"public_inputs[{index}]: must be a decimal string below the field's order")
    return value
