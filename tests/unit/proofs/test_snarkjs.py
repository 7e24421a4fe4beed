"""The two forms of a proof, and what is not one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proofs import repeatable
from zkp.proofs import DocumentError, snarkjs
from zkp.proofs.snarkjs import BASE_ORDER

NUMBERED = b"".join(number.to_bytes(32, "big") for number in range(1, 9))


def test_extension_elements_change_their_order() -> None:
    """The bytes hold c1 before c0, snarkjs the other way round."""
    assert snarkjs.to_object(NUMBERED) == {
        "pi_a": ["1", "2", "1"],
        "pi_b": [["4", "3"], ["6", "5"], ["1", "0"]],
        "pi_c": ["7", "8", "1"],
        "protocol": "groth16",
        "curve": "bn128",
    }


@repeatable
@given(st.lists(st.integers(0, BASE_ORDER - 1), min_size=8, max_size=8))
def test_both_ways_give_the_same_bytes(coordinates: list[int]) -> None:
    """Converting to snarkjs' object and back changes nothing."""
    proof = b"".join(number.to_bytes(32, "big") for number in coordinates)
    assert snarkjs.to_bytes(snarkjs.to_object(proof)) == proof
    assert list(snarkjs.coordinates(snarkjs.to_object(proof))) == coordinates


@pytest.mark.parametrize("size", [0, 255, 257])
def test_a_proof_has_256_bytes(size: int) -> None:
    """Another number of bytes is a mistake of the caller's."""
    with pytest.raises(ValueError, match="256 bytes"):
        snarkjs.to_object(bytes(size))


def test_coordinates_beyond_the_field_have_no_bytes() -> None:
    """A coordinate at the base field's order is shown in the object but not packed again."""
    proof = BASE_ORDER.to_bytes(32, "big") + NUMBERED[32:]
    assert snarkjs.coordinates(snarkjs.to_object(proof))[0] == BASE_ORDER
    with pytest.raises(DocumentError, match="base field's order"):
        snarkjs.to_bytes(snarkjs.to_object(proof))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"protocol": "plonk"}, "proof.protocol"),
        ({"curve": "bls12381"}, "proof.curve"),
        ({"pi_a": None}, "proof.pi_a"),
        ({"pi_a": ["1", "2"]}, "proof.pi_a"),
        ({"pi_a": ["1", "2", "0"]}, "proof.pi_a[2]"),
        ({"pi_a": [1, "2", "1"]}, "proof.pi_a[0]"),
        ({"pi_a": ["-1", "2", "1"]}, "proof.pi_a[0]"),
        ({"pi_a": ["01", "2", "1"]}, "proof.pi_a[0]"),
        ({"pi_a": ["9" * 5000, "2", "1"]}, "proof.pi_a[0]"),
        ({"pi_b": [["4", "3"], ["6", "5"]]}, "proof.pi_b"),
        ({"pi_b": ["43", "65", "10"]}, "proof.pi_b[0]"),
        ({"pi_b": [["4", "3"], ["6", "x"], ["1", "0"]]}, "proof.pi_b[1][1]"),
        ({"pi_b": [["4", "3"], ["6", "5"], ["0", "1"]]}, "proof.pi_b[2][0]"),
        ({"pi_c": {"x": "7"}}, "proof.pi_c"),
        ({"more": 1}, "proof:"),
    ],
)
def test_malformed_objects_are_refused_by_field(change: dict[str, Any], field: str) -> None:
    """Each malformed part is named."""
    with pytest.raises(DocumentError) as refused:
        snarkjs.to_bytes(snarkjs.to_object(NUMBERED) | change)
    assert str(refused.value).startswith(field)


@pytest.mark.parametrize("document", [None, [], "proof", {}])
def test_other_json_is_no_proof(document: object) -> None:
    """Only an object with exactly the fields is a proof."""
    with pytest.raises(DocumentError, match="must be an object"):
        snarkjs.coordinates(document)
