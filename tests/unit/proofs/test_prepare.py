"""What requests become, and how bad ones are refused: by field, without repeating a private value."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proofs import repeatable
from zkp.proofs import CircuitError, InputError, UnsatisfiedInputs, circuits
from zkp.proofs.field import ORDER
from zkp.proofs.merkle_proof import MAX_LEAVES
from zkp.proofs.poseidon import poseidon
from zkp.proofs.tree import EMPTY, root_of

WORDS = st.integers(0, 2**64 - 1)
ELEMENTS = st.integers(0, ORDER - 1)
MERKLE = {"leaves": [1, 2, 3], "leaf_index": 1}
RANGE = {"value": 5, "min": 1, "max": 9, "blinding": 3}
ADDITION = {"a": 1, "b": 2}


def test_catalogue_has_three_circuits() -> None:
    """The names are the ones that clients use."""
    assert circuits.NAMES == ("merkle_proof", "range_proof", "addition")


@pytest.mark.parametrize("name", circuits.NAMES)
def test_sample_is_prepared_and_passes_the_check(name: str) -> None:
    """Each circuit's sample gives a submission that the coordinator takes, and that can be proved."""
    prepared = circuits.prepare(name, circuits.find(name).sample)
    circuits.check(name, prepared.inputs, prepared.public_inputs)
    assert circuits.evaluate(name, prepared.inputs) == prepared.public_inputs


@repeatable
@given(st.lists(ELEMENTS, min_size=1, max_size=9), st.data())
def test_merkle_request_leads_to_the_root(leaves: list[int], data: st.DataObject) -> None:
    """Leaf, index and siblings of any request lead to the root that is made public."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    prepared = circuits.prepare("merkle_proof", {"leaves": leaves, "leaf_index": index})
    circuits.check("merkle_proof", prepared.inputs, prepared.public_inputs)
    inputs = json.loads(prepared.inputs)
    assert (inputs["leaf"], inputs["leaf_index"]) == (str(leaves[index]), str(index))
    root = root_of(leaves[index], index, [int(sibling) for sibling in inputs["siblings"]])
    assert prepared.public_inputs == (str(root),)


@repeatable
@given(st.lists(WORDS, min_size=3, max_size=3).map(sorted), ELEMENTS)
def test_range_request_commits_to_the_value(numbers: list[int], blinding: int) -> None:
    """The public inputs are the commitment Poseidon(value, blinding) and the bounds."""
    low, value, high = numbers
    request = {"value": value, "min": low, "max": high, "blinding": blinding}
    prepared = circuits.prepare("range_proof", request)
    circuits.check("range_proof", prepared.inputs, prepared.public_inputs)
    assert prepared.public_inputs == (str(poseidon(value, blinding)), str(low), str(high))


@repeatable
@given(WORDS, WORDS)
def test_addition_request_leads_to_the_integer_sum(a: int, b: int) -> None:
    """The public input is the sum as an integer: 64 bits do not wrap."""
    prepared = circuits.prepare("addition", {"a": a, "b": b})
    circuits.check("addition", prepared.inputs, prepared.public_inputs)
    assert prepared.public_inputs == (str(a + b),)


def test_numbers_may_be_written_in_three_ways() -> None:
    """Integers, decimal strings and hex strings of either case and with leading zeros mean the same."""
    written = [circuits.prepare("addition", {"a": a, "b": 1}) for a in (171, "171", "0171", "0xab", "0X00AB")]
    assert len({prepared.inputs for prepared in written}) == 1


def test_the_largest_element_and_zero_are_leaves() -> None:
    """The whole field can be listed, from 0 to the order minus one."""
    prepared = circuits.prepare("merkle_proof", {"leaves": [0, ORDER - 1], "leaf_index": 1})
    assert json.loads(prepared.inputs)["leaf"] == str(ORDER - 1)


def test_blinding_is_drawn_anew_when_none_is_given() -> None:
    """Two requests without a blinding commit to the same value differently."""
    request = {"value": 5, "min": 1, "max": 9}
    first, second = (circuits.prepare("range_proof", request) for _ in range(2))
    assert first.public_inputs[0] != second.public_inputs[0]


def test_private_inputs_are_not_shown() -> None:
    """The text form of what was prepared has no private input in it."""
    prepared = circuits.prepare("addition", {"a": 987654321, "b": 0})
    assert "987654321" in prepared.inputs.decode()
    assert "inputs=b" not in repr(prepared)


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("merkle_proof", MERKLE | {"leaf_index": 3}, "leaf_index", "below 3, the number of leaves"),
    ("merkle_proof", MERKLE | {"leaf_index": -1}, "leaf_index", "0 or more"),
    ("merkle_proof", MERKLE | {"leaf_index": True}, "leaf_index", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaf_index": 1.5}, "leaf_index", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaf_index": None}, "leaf_index", "is missing"),
    ("merkle_proof", {"leaves": [1]}, "leaf_index", "is missing"),
    ("merkle_proof", {"leaf_index": 0}, "leaves", "at least one"),
    ("merkle_proof", MERKLE | {"leaves": []}, "leaves", "at least one"),
    ("merkle_proof", MERKLE | {"leaves": "123"}, "leaves", "must be a list"),
    ("merkle_proof", MERKLE | {"leaves": {"0": 1}}, "leaves", "must be a list"),
    ("merkle_proof", MERKLE | {"leaves": [1] * (MAX_LEAVES + 1)}, "leaves", "at most 65536"),
    ("merkle_proof", MERKLE | {"leaves": [1, ORDER]}, "leaves[1]", "below the field's order"),
    ("merkle_proof", MERKLE | {"leaves": [1, hex(ORDER)]}, "leaves[1]", "below the field's order"),
    ("merkle_proof", MERKLE | {"leaves": ["9" * 5000]}, "leaves[0]", "below the field's order"),
    ("merkle_proof", MERKLE | {"leaves": ["0x" + "f" * 5000]}, "leaves[0]", "below the field's order"),
    ("merkle_proof", MERKLE | {"leaves": [1, 2, False]}, "leaves[2]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": [""]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": ["0x"]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": ["-1"]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": ["1_000"]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": [" 1"]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": ["١"]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": [[1]]}, "leaves[0]", "not a whole number"),
    ("merkle_proof", MERKLE | {"leaves": [None]}, "leaves[0]", "is missing"),
    ("merkle_proof", MERKLE | {"leaves": [1, EMPTY]}, "leaves[1]", "empty place"),
    ("merkle_proof", MERKLE | {"leafs": [1]}, "leafs", "did you mean 'leaves'?"),
    ("merkle_proof", MERKLE | {"\ud800": 1}, "\\ud800", "known are: leaves, leaf_index"),
    ("range_proof", RANGE | {"min": 10}, "min", "above max"),
    ("range_proof", RANGE | {"value": 0}, "value", "below min"),
    ("range_proof", RANGE | {"value": 10}, "value", "above max"),
    ("range_proof", RANGE | {"value": 2**64}, "value", "below 2^64"),
    ("range_proof", RANGE | {"max": 2**64}, "max", "below 2^64"),
    ("range_proof", RANGE | {"min": ORDER - 5}, "min", "below 2^64"),
    ("range_proof", RANGE | {"blinding": ORDER}, "blinding", "below the field's order"),
    ("range_proof", RANGE | {"blinding": True}, "blinding", "not a whole number"),
    ("range_proof", {"value": 1, "min": 0}, "max", "is missing"),
    ("addition", ADDITION | {"a": 2**64}, "a", "below 2^64"),
    ("addition", ADDITION | {"b": -1}, "b", "0 or more"),
    ("addition", ADDITION | {"c": 1}, "c", "known are: a, b"),
    ("addition", {"a": 1}, "b", "is missing"),
]


@pytest.mark.parametrize(("name", "request_", "field", "words"), BAD)
def test_bad_request_is_refused_by_field(name: str, request_: dict[str, Any], field: str, words: str) -> None:
    """Each kind of bad request names the field and the cure, in one printable line."""
    with pytest.raises(InputError) as refused:
        circuits.prepare(name, request_)
    assert refused.value.field == field
    assert words in refused.value.message
    line = str(refused.value)
    assert line == f"{field}: {refused.value.message}"
    assert "\n" not in line
    assert line.encode()


def test_refusals_do_not_repeat_private_values() -> None:
    """A value outside its range is not in the message about it."""
    with pytest.raises(InputError) as refused:
        circuits.prepare("range_proof", RANGE | {"value": 987654321})
    assert "987654321" not in str(refused.value)


@pytest.mark.parametrize("name", ["merkle", "", "MERKLE_PROOF", "x" * 1000, "../addition", "\ud800"])
def test_unknown_circuit_is_refused(name: str) -> None:
    """An unknown circuit is refused with the known names, in a short line."""
    with pytest.raises(CircuitError, match="known are: merkle_proof, range_proof, addition") as refused:
        circuits.prepare(name, {})
    assert len(str(refused.value)) < 200


def test_refusals_survive_a_process_pool() -> None:
    """An InputError is the same after pickling: requests may be prepared in another process."""
    error = pickle.loads(pickle.dumps(InputError("leaves[7]", "is wrong")))  # noqa: S301 - our own bytes
    assert (error.field, error.message, str(error)) == ("leaves[7]", "is wrong", "leaves[7]: is wrong")


UNSATISFIED = [
    ("merkle_proof", {"leaf": str(EMPTY), "leaf_index": "3", "siblings": ["0"] * 20}, "empty place"),
    ("merkle_proof", {"leaf": "1", "leaf_index": str(2**20), "siblings": ["0"] * 20}, "leaf_index"),
    ("range_proof", {"value": "4", "blinding": "1", "min": "5", "max": "9"}, r"\[min, max\]"),
    ("range_proof", {"value": "10", "blinding": "1", "min": "5", "max": "9"}, r"\[min, max\]"),
    ("range_proof", {"value": "1", "blinding": "1", "min": str(ORDER - 1), "max": "9"}, "min"),
    ("range_proof", {"value": str(2**64), "blinding": "1", "min": "0", "max": str(2**65)}, "value"),
    ("addition", {"a": str(ORDER - 1), "b": "2"}, "a must be below"),
    ("addition", {"a": "2", "b": str(2**64)}, "b must be below"),
]


@pytest.mark.parametrize(("name", "signals", "words"), UNSATISFIED)
def test_inputs_without_a_proof_are_told(name: str, signals: dict[str, Any], words: str) -> None:
    """Inputs of the right form that break the circuit's conditions are unsatisfied, and say which."""
    inputs = json.dumps(signals, sort_keys=True, separators=(",", ":")).encode()
    circuits.check(name, inputs, ["0"] * len(circuits.find(name).public))
    with pytest.raises(UnsatisfiedInputs, match=words):
        circuits.evaluate(name, inputs)
