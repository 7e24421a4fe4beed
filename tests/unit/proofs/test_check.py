"""What the coordinator refuses: anything that does not have exactly the circuit's form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proofs import repeatable
from zkp.proofs import CircuitError, InputError, circuits, signals
from zkp.proofs.addition import CIRCUIT
from zkp.proofs.field import ORDER
from zkp.protocol.limits import MAX_INPUT_BYTES

GOOD = {"a": "1", "b": "2"}


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


BAD_INPUTS = [
    pytest.param(b"", "inputs", id="nothing"),
    pytest.param(b"\xff\xfe", "inputs", id="not UTF-8"),
    pytest.param(b"null", "inputs", id="null"),
    pytest.param(b'["1","2"]', "inputs", id="a list"),
    pytest.param(b'{"a":"1","b":"2"', "inputs", id="cut off"),
    pytest.param(b'{"a":"1","b":"2"} ', "inputs", id="a blank after"),
    pytest.param(b'{"a": "1","b":"2"}', "inputs", id="a blank inside"),
    pytest.param(b'{"b":"2","a":"1"}', "inputs", id="unsorted"),
    pytest.param(b'{"a":"1","a":"1","b":"2"}', "inputs", id="a key twice"),
    pytest.param(b'{"a":"\\u0031","b":"2"}', "inputs", id="an escape"),
    pytest.param(b'{"a":1,"b":"2"}', "inputs", id="a number"),
    pytest.param(b'{"a":1e999999,"b":"2"}', "inputs", id="a huge float"),
    pytest.param(b'{"a":NaN,"b":"2"}', "inputs.a", id="NaN"),
    pytest.param(b"[" * MAX_INPUT_BYTES, "inputs", id="deep lists"),
    pytest.param(b'{"a":' * (MAX_INPUT_BYTES // 5), "inputs", id="deep objects"),
    pytest.param(b'{"a":' + b"1" * (MAX_INPUT_BYTES - 10) + b"}", "inputs", id="a long number"),
    pytest.param(canonical({"a": "1" * (MAX_INPUT_BYTES - 50), "b": "2"}), "inputs.a", id="a long string"),
    pytest.param(canonical(GOOD | {"c": "1" * MAX_INPUT_BYTES}), "inputs", id="too many bytes"),
    pytest.param(canonical(GOOD | {"c": "3"}), "inputs.c", id="an unknown signal"),
    pytest.param(canonical({"a": "1"}), "inputs.b", id="a signal too few"),
    pytest.param(canonical(GOOD | {"b": None}), "inputs.b", id="a null"),
    pytest.param(canonical(GOOD | {"b": True}), "inputs.b", id="a boolean"),
    pytest.param(canonical(GOOD | {"b": ["2"]}), "inputs.b", id="a list for a scalar"),
    pytest.param(canonical(GOOD | {"b": "02"}), "inputs.b", id="a leading zero"),
    pytest.param(canonical(GOOD | {"b": "+2"}), "inputs.b", id="a sign"),
    pytest.param(canonical(GOOD | {"b": "0x2"}), "inputs.b", id="hex"),
    pytest.param(canonical(GOOD | {"b": "2\n"}), "inputs.b", id="a line end"),
    pytest.param(canonical(GOOD | {"b": "٢"}), "inputs.b", id="a digit outside ASCII"),
    pytest.param(canonical(GOOD | {"b": str(ORDER)}), "inputs.b", id="the field's order"),
]


@pytest.mark.parametrize(("inputs", "field"), BAD_INPUTS)
def test_malformed_inputs_are_refused_by_field(inputs: bytes, field: str) -> None:
    """Whatever is wrong with the bytes is an InputError of that field, never another exception."""
    with pytest.raises(InputError) as refused:
        circuits.check("addition", inputs, ["3"])
    assert refused.value.field == field
    assert str(refused.value).encode()


@pytest.mark.parametrize(
    ("siblings", "field"),
    [
        (["0"] * 19, "inputs.siblings"),
        (["0"] * 21, "inputs.siblings"),
        ("0" * 20, "inputs.siblings"),
        (["0"] * 19 + [str(ORDER)], "inputs.siblings[19]"),
        ([["0"]] + ["0"] * 19, "inputs.siblings[0]"),
    ],
)
def test_arrays_have_exactly_their_length(siblings: Any, field: str) -> None:
    """A path that is not twenty field elements is refused, and a bad element by its index."""
    with pytest.raises(InputError) as refused:
        circuits.check("merkle_proof", canonical({"leaf": "1", "leaf_index": "0", "siblings": siblings}), ["1"])
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("public_inputs", "field"),
    [
        ([], "public_inputs"),
        (["1", "2"], "public_inputs"),
        ([""], "public_inputs[0]"),
        (["-1"], "public_inputs[0]"),
        (["03"], "public_inputs[0]"),
        ([str(ORDER)], "public_inputs[0]"),
        (["9" * 5000], "public_inputs[0]"),
    ],
)
def test_malformed_public_inputs_are_refused_by_field(public_inputs: list[str], field: str) -> None:
    """Public inputs are as many as the circuit has, each a canonical field element."""
    with pytest.raises(InputError) as refused:
        circuits.check("addition", canonical(GOOD), public_inputs)
    assert refused.value.field == field


def test_another_circuits_inputs_are_refused() -> None:
    """Inputs are checked against the named circuit, not any."""
    with pytest.raises(InputError, match=r"inputs\.a: is unknown"):
        circuits.check("range_proof", canonical(GOOD), ["1", "2", "3"])


def test_unknown_circuit_is_refused() -> None:
    """The name is checked first."""
    with pytest.raises(CircuitError):
        circuits.check("division", b"", [])


@repeatable
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(inputs: bytes) -> None:
    """No bytes make the check fail in another way than by its own error."""
    with pytest.raises(InputError):
        circuits.check("addition", inputs, ["3"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("7"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@repeatable
@given(JSON)
def test_only_the_exact_form_is_taken(document: object) -> None:
    """Of arbitrary JSON, the check takes two decimal strings named a and b, and refuses everything else."""
    exact = (
        isinstance(document, dict)
        and set(document) == {"a", "b"}
        and all(isinstance(v, str) and v.isascii() and v.isdecimal() and str(int(v)) == v for v in document.values())
    )
    if exact:
        circuits.check("addition", canonical(document), ["3"])
    else:
        with pytest.raises(InputError):
            circuits.check("addition", canonical(document), ["3"])


@repeatable
@given(st.sampled_from([0, 1, 7, 10**76, ORDER - 1, ORDER, ORDER + 1, 10**77]), st.sampled_from(["", "0", " "]))
def test_the_quick_check_takes_what_decoding_takes(value: int, before: str) -> None:
    """The form alone tells good inputs from bad ones, up to the last number below the field's order."""
    inputs = canonical({"a": before + str(value), "b": "2"})
    try:
        signals.decode(CIRCUIT.shape, inputs)
    except InputError:
        assert not signals.canonical(CIRCUIT.shape, inputs)
    else:
        assert signals.canonical(CIRCUIT.shape, inputs)
