"""The catalogue of circuits: requests are prepared, submissions checked, statements evaluated here.

Pure Python, without the prover library: clients and gateways run on this alone.
"""

from collections.abc import Mapping, Sequence

from zkp.proofs import addition, merkle_proof, range_proof
from zkp.proofs.circuit import Circuit, Prepared
from zkp.proofs.errors import CircuitError, InputError
from zkp.proofs.field import from_decimal
from zkp.proofs.request import Request
from zkp.proofs.signals import ELEMENT, canonical, decode, encode

__all__ = ["CATALOGUE", "NAMES", "Circuit", "Prepared", "check", "evaluate", "find", "prepare", "prepare_request"]

CATALOGUE: Mapping[str, Circuit] = {
    circuit.name: circuit for circuit in (merkle_proof.CIRCUIT, range_proof.CIRCUIT, addition.CIRCUIT)
}
NAMES = tuple(CATALOGUE)


def find(name: str) -> Circuit:
    """The circuit of that name, or CircuitError."""
    circuit = CATALOGUE.get(name)
    if circuit is None:
        raise CircuitError(f"no circuit is called {ascii(name)[:64]}; known are: {', '.join(NAMES)}")
    return circuit


def prepare(name: str, request: Mapping[str, object]) -> Prepared:
    """Turn a client's request into what is submitted: the Merkle path, the commitment, the sum.

    Works on the CPU, up to ten seconds for a list of 65,536 new entries: run it in an executor. Raises
    CircuitError for an unknown circuit and InputError for a wrong field.
    """
    circuit = find(name)
    return prepare_request(circuit, circuit.request.read(request))


def prepare_request(circuit: Circuit, request: Request) -> Prepared:
    """Like `prepare`, from a request that was read."""
    signals = request.signals()
    public_inputs = tuple(map(str, circuit.evaluate(signals)))
    return Prepared(encode(circuit.shape, signals), public_inputs)


def check(name: str, inputs: bytes, public_inputs: Sequence[str]) -> None:
    """Refuse a submission that does not have the circuit's form: CircuitError, or InputError by field.

    Well under a millisecond for any bytes. Whether the inputs satisfy the circuit is the prover's to find.
    """
    circuit = find(name)
    if not canonical(circuit.shape, inputs):
        decode(circuit.shape, inputs)  # says what is wrong
    if len(public_inputs) != len(circuit.public):
        raise InputError("public_inputs", f"must be {len(circuit.public)}: {', '.join(circuit.public)}")
    for index, text in enumerate(public_inputs):
        if from_decimal(text) is None:
            raise InputError(f"public_inputs[{index}]", ELEMENT)


def evaluate(name: str, inputs: bytes) -> tuple[str, ...]:
    """The public inputs that `inputs` lead to; UnsatisfiedInputs when no proof of them can exist.

    A few milliseconds. CircuitError and InputError as from `check`.
    """
    circuit = find(name)
    return tuple(map(str, circuit.evaluate(decode(circuit.shape, inputs))))
