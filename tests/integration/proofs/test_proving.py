"""Real proofs: what the Python side computes is what the circuits prove, and nothing else verifies."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from zkp.proofs import InputError, KeyStoreError, ProverFailed, UnsatisfiedInputs, circuits, groth16
from zkp.proofs.field import ORDER
from zkp.proofs.groth16 import Prover, Verifier
from zkp.proofs.poseidon import poseidon
from zkp.proofs.snarkjs import BASE_ORDER
from zkp.proofs.tree import EMPTY, MerkleTree

ALLOWLIST = Path(__file__).parents[3] / "examples" / "allowlist.csv"
Samples = dict[str, tuple[bytes, tuple[str, ...]]]


def canonical(signals: dict[str, Any]) -> bytes:
    texts = {
        name: [str(item) for item in value] if isinstance(value, tuple) else str(value)
        for name, value in signals.items()
    }
    return json.dumps(texts, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", circuits.NAMES)
def test_a_sample_proof_verifies(name: str, samples: Samples, verifier: Verifier) -> None:
    """Each circuit gives 256 bytes that prove the public inputs that Python computed."""
    proof, public_inputs = samples[name]
    assert len(proof) == 256
    assert verifier.verify(name, proof, public_inputs)


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (7, 6), (64, 63)])
def test_lists_of_any_size_are_proved(size: int, index: int, provers: dict[str, Prover], verifier: Verifier) -> None:
    """Lists whose size is a power of two or not, first and last entries: the Python root verifies."""
    prepared = circuits.prepare("merkle_proof", {"leaves": list(range(size)), "leaf_index": index})
    proof = provers["merkle_proof"].prove(prepared.inputs, prepared.public_inputs)
    assert verifier.verify("merkle_proof", proof, prepared.public_inputs)


def test_a_member_of_the_example_list_is_proved(provers: dict[str, Prover], verifier: Verifier) -> None:
    """An address of examples/allowlist.csv is proved a member as it stands in the file."""
    with ALLOWLIST.open(newline="", encoding="utf-8") as file:
        leaves = [row["address"] for row in csv.DictReader(file)]
    prepared = circuits.prepare("merkle_proof", {"leaves": leaves, "leaf_index": 999})
    proof = provers["merkle_proof"].prove(prepared.inputs, prepared.public_inputs)
    assert verifier.verify("merkle_proof", proof, prepared.public_inputs)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("range_proof", {"value": 0, "min": 0, "max": 0}),
        ("range_proof", {"value": 2**64 - 1, "min": 2**64 - 1, "max": 2**64 - 1}),
        ("range_proof", {"value": 5, "min": 0, "max": 2**64 - 1}),
        ("addition", {"a": 0, "b": 0}),
        ("addition", {"a": 2**64 - 1, "b": 2**64 - 1}),
    ],
)
def test_the_ends_of_64_bits_are_proved(
    name: str, request_: dict[str, int], provers: dict[str, Prover], verifier: Verifier
) -> None:
    """The smallest and largest numbers work, and the largest sum does not wrap."""
    prepared = circuits.prepare(name, request_)
    assert verifier.verify(name, provers[name].prove(prepared.inputs), prepared.public_inputs)


@pytest.mark.parametrize("name", circuits.NAMES)
def test_other_public_inputs_are_refused(name: str, samples: Samples, verifier: Verifier) -> None:
    """A proof is of its own public inputs: not of others, more, fewer, none, or the same plus the order."""
    proof, public_inputs = samples[name]
    for position, text in enumerate(public_inputs):
        for other in (str(int(text) + 1), str(int(text) + ORDER), f"0{text}", "", "x"):
            changed = (*public_inputs[:position], other, *public_inputs[position + 1 :])
            assert not verifier.verify(name, proof, changed)
    assert not verifier.verify(name, proof, (*public_inputs, "0"))
    assert not verifier.verify(name, proof, public_inputs[1:])


@pytest.mark.parametrize("position", [0, 31, 63, 64, 127, 191, 192, 255])
def test_a_changed_proof_is_refused(position: int, samples: Samples, verifier: Verifier) -> None:
    """One flipped bit anywhere makes the proof false."""
    proof, public_inputs = samples["addition"]
    changed = bytearray(proof)
    changed[position] ^= 1
    assert not verifier.verify("addition", bytes(changed), public_inputs)


def test_what_is_no_proof_is_refused(samples: Samples, verifier: Verifier) -> None:
    """Zeros, ones, wrong lengths, points off the curve, a negated point, coordinates plus the base order."""
    proof, public_inputs = samples["addition"]
    x, y = int.from_bytes(proof[:32], "big"), int.from_bytes(proof[32:64], "big")
    negated = proof[:32] + (BASE_ORDER - y).to_bytes(32, "big") + proof[64:]
    aliased = (x + BASE_ORDER).to_bytes(32, "big") + proof[32:]
    off_curve = proof[:32] + ((y + 1) % BASE_ORDER).to_bytes(32, "big") + proof[64:]
    for bad in (b"", bytes(256), b"\xff" * 256, proof[:-1], proof + b"\0", negated, aliased, off_curve):
        assert not verifier.verify("addition", bad, public_inputs)


def test_a_proof_of_another_circuit_is_refused(samples: Samples, verifier: Verifier) -> None:
    """A merkle proof does not verify as an addition, though both have one public input."""
    proof, public_inputs = samples["merkle_proof"]
    assert not verifier.verify("addition", proof, public_inputs)


def test_a_circuit_without_key_is_an_error(verifier: Verifier) -> None:
    """Asking for a circuit that the store has no key of is not the same as a false proof."""
    with pytest.raises(KeyStoreError, match="no verifying key of circuit 'division'"):
        verifier.verify("division", bytes(256), ())


def test_inputs_that_break_the_circuit_are_final(provers: dict[str, Prover]) -> None:
    """Inputs of the right form without a proof are told from failures of the prover."""
    inputs = canonical({"value": 4, "blinding": 1, "min": 5, "max": 9})
    with pytest.raises(UnsatisfiedInputs):
        provers["range_proof"].prove(inputs, (str(poseidon(4, 1)), "5", "9"))


def test_inputs_for_another_statement_are_final(provers: dict[str, Prover]) -> None:
    """Inputs that lead to another root or sum than the task states are unsatisfied too."""
    with pytest.raises(UnsatisfiedInputs, match="public inputs"):
        provers["addition"].prove(canonical({"a": 1, "b": 2}), ("4",))


def test_malformed_inputs_are_final(provers: dict[str, Prover]) -> None:
    """Bytes without the circuit's form are refused by field before any proving."""
    with pytest.raises(InputError, match=r"inputs\.b: is missing"):
        provers["addition"].prove(b'{"a":"1"}', ("4",))


LIST = MerkleTree([11, 22, 33])
EMPTY_PATH = (33, *LIST.path(2)[1:])
FALSE_STATEMENTS = [
    pytest.param(
        "merkle_proof",
        {"leaf": EMPTY, "leaf_index": 3, "siblings": EMPTY_PATH},
        (LIST.root,),
        id="an empty place is a member",
    ),
    pytest.param(
        "merkle_proof",
        {"leaf": 33, "leaf_index": 2 + 2**20, "siblings": LIST.path(2)},
        (LIST.root,),
        id="an index of 21 bits",
    ),
    pytest.param(
        "merkle_proof", {"leaf": 44, "leaf_index": 2, "siblings": LIST.path(2)}, (LIST.root,), id="no member"
    ),
    pytest.param(
        "range_proof",
        {"value": 4, "blinding": 1, "min": 5, "max": 9},
        (poseidon(4, 1), 5, 9),
        id="below the range",
    ),
    pytest.param(
        "range_proof",
        {"value": 10, "blinding": 1, "min": 5, "max": 9},
        (poseidon(10, 1), 5, 9),
        id="above the range",
    ),
    pytest.param(
        "range_proof",
        {"value": 3, "blinding": 1, "min": ORDER - 5, "max": 9},
        (poseidon(3, 1), ORDER - 5, 9),
        id="a negative lower bound",
    ),
    pytest.param(
        "range_proof",
        {"value": 2**64 - 1, "blinding": 1, "min": 0, "max": 2**64 + 5},
        (poseidon(2**64 - 1, 1), 0, 2**64 + 5),
        id="an upper bound of 65 bits",
    ),
    pytest.param(
        "range_proof",
        {"value": 2**64, "blinding": 1, "min": 2**63, "max": 2**64 + 1},
        (poseidon(2**64, 1), 2**63, 2**64 + 1),
        id="a range beyond 64 bits",
    ),
    pytest.param(
        "range_proof",
        {"value": ORDER - 1, "blinding": 1, "min": ORDER - 2, "max": 0},
        (poseidon(ORDER - 1, 1), ORDER - 2, 0),
        id="a range around zero",
    ),
    pytest.param("addition", {"a": ORDER - 1, "b": 4}, (3,), id="a sum that wraps"),
    pytest.param("addition", {"a": 2**64, "b": 1}, (2**64 + 1,), id="a first summand of 65 bits"),
    pytest.param("addition", {"a": 1, "b": 2**64}, (2**64 + 1,), id="a second summand of 65 bits"),
    pytest.param("addition", {"a": 1, "b": 1}, (3,), id="a wrong sum"),
]


@pytest.mark.parametrize(("name", "signals", "public_inputs"), FALSE_STATEMENTS)
def test_the_circuit_itself_refuses_false_statements(
    name: str, signals: dict[str, Any], public_inputs: tuple[int, ...], provers: dict[str, Prover]
) -> None:
    """With the Python checks left out, no proof of a false statement verifies."""
    prover, circuit = provers[name], circuits.find(name)
    with pytest.raises(ProverFailed, match="false proof"):
        groth16._prove(prover._key, prover._verifier, circuit, canonical(signals), tuple(map(str, public_inputs)))


def test_threads_share_prover_and_verifier(provers: dict[str, Prover], verifier: Verifier) -> None:
    """One prover and one verifier serve several threads at once."""
    inputs = [canonical({"a": number, "b": 1}) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        proofs = list(pool.map(provers["addition"].prove, inputs))
        sums = [(str(number + 1),) for number in range(8)]
        assert all(pool.map(lambda proof, total: verifier.verify("addition", proof, total), proofs, sums))
