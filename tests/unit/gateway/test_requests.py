"""Requests become submissions, or problems that name the field and the remedy."""

import json
import pickle

import pytest

from gateway.problems import INVALID_FIELD, NO_SUCH_TASK, ApiProblem
from gateway.requests import (
    ListingQuery,
    NoParameters,
    PreparedRequest,
    WaitQuery,
    read_query,
    read_submission,
    read_task_id,
)
from zkp.client.model import TaskState
from zkp.proofs import circuits
from zkp.proofs.field import ORDER
from zkp.proofs.merkle_proof import MAX_LEAVES

RANGE = {"value": 42, "min": 18, "max": 120}


def read(document: object, circuit: str | None = None, *, keyed: bool = False) -> PreparedRequest:
    """Return the submission of a document."""
    return read_submission(json.dumps(document).encode(), circuit, keyed=keyed)


def refusal(document: object, circuit: str | None = None, *, keyed: bool = False) -> ApiProblem:
    """The refusal of a document."""
    with pytest.raises(ApiProblem) as caught:
        read(document, circuit, keyed=keyed)
    assert caught.value.kind is INVALID_FIELD
    assert caught.value.field is not None
    assert caught.value.detail.startswith(f"{caught.value.field}: ")
    return caught.value


@pytest.mark.parametrize("circuit", circuits.NAMES)
def test_the_shortcut_and_the_general_endpoint_are_equivalent(circuit: str) -> None:
    """Both prepare the request as the catalogue of circuits does."""
    sample = dict(circuits.find(circuit).sample)
    expected = circuits.prepare(circuit, sample)
    direct = read(sample, circuit)
    general = read({"circuit": circuit, "inputs": sample, "max_retries": 2})
    assert (direct.inputs, direct.public_inputs) == (expected.inputs, expected.public_inputs)
    assert (general.inputs, general.public_inputs) == (expected.inputs, expected.public_inputs)
    assert (direct.max_retries, general.max_retries) == (None, 2)


@pytest.mark.parametrize("leaves", [[5], [5, 6, 7], list(range(1, 12))])
def test_lists_of_any_length_work(leaves: list[int]) -> None:
    """A list's length need not be a power of two."""
    assert len(read({"leaves": leaves, "leaf_index": len(leaves) - 1}, "merkle_proof").public_inputs) == 1


@pytest.mark.parametrize(
    ("circuit", "document", "field"),
    [
        ("merkle_proof", {"leaves": [1, 2, 3], "leaf_index": 3}, "leaf_index"),
        ("merkle_proof", {"leaves": [1, 2, 3], "leaf_index": -1}, "leaf_index"),
        ("merkle_proof", {"leaves": [1, 2, 3], "leaf_index": True}, "leaf_index"),
        ("merkle_proof", {"leaves": [1, 2, 3]}, "leaf_index"),
        ("merkle_proof", {"leaves": [], "leaf_index": 0}, "leaves"),
        ("merkle_proof", {"leaves": "1", "leaf_index": 0}, "leaves"),
        ("merkle_proof", {"leaves": [1] * (MAX_LEAVES + 1), "leaf_index": 0}, "leaves"),
        ("merkle_proof", {"leaves": [1, ORDER], "leaf_index": 0}, "leaves[1]"),
        ("merkle_proof", {"leaves": [1, 1.5], "leaf_index": 0}, "leaves[1]"),
        ("merkle_proof", {"leaves": [1, None], "leaf_index": 0}, "leaves[1]"),
        ("merkle_proof", {"leaves": [1], "leaf_index": 0, "leaf": 1}, "leaf"),
        ("range_proof", {**RANGE, "min": 121}, "min"),
        ("range_proof", {**RANGE, "value": 17}, "value"),
        ("range_proof", {**RANGE, "value": 121}, "value"),
        ("range_proof", {**RANGE, "max": 2**64}, "max"),
        ("range_proof", {**RANGE, "blinding": ORDER}, "blinding"),
        ("addition", {"a": 1}, "b"),
        ("addition", {"a": "one", "b": 2}, "a"),
    ],
)
def test_an_invalid_field_is_named_on_both_endpoints(circuit: str, document: dict[str, object], field: str) -> None:
    """The general endpoint prefixes it with "inputs.", as the caller wrote it."""
    assert refusal(document, circuit).field == field
    assert refusal({"circuit": circuit, "inputs": document}).field == f"inputs.{field}"


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({"circuit": "merkle", "inputs": {}}, "circuit", "did you mean merkle_proof?"),
        ({"circuit": "sudoku", "inputs": {}}, "circuit", "known are merkle_proof, range_proof, addition"),
        ({"circuit": 7, "inputs": {}}, "circuit", "must be a string"),
        ({"inputs": {}}, "circuit", "is missing"),
        ({"circuit": "\ud800", "inputs": {}}, "circuit", "is unknown"),
        ({"circuit": "multiplication", "inputs": {"a": 1}}, "circuit", "is unknown"),
        ({"cirucit": "addition", "inputs": {"a": 1}}, "cirucit", "did you mean 'circuit'"),
        ({"circuit": "addition"}, "inputs", "must be an object with a, b"),
        ({"circuit": "addition", "inputs": [1, 2]}, "inputs", "must be an object"),
        ({"circuit": "addition", "inputs": {}, "max_retry": 1}, "max_retry", "did you mean 'max_retries'?"),
        ({"circuit": "addition", "inputs": {}, "zz": 1}, "zz", "known are: circuit, inputs, max_retries"),
        ({"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": -1}, "max_retries", "from 0 to 10"),
        ({"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": True}, "max_retries", "whole number"),
        ({"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": 10**30}, "max_retries", "from 0 to 10"),
    ],
)
def test_members_beside_the_inputs_are_checked(document: object, field: str, words: str) -> None:
    """The messages for unknown circuits and fields suggest the nearest known one."""
    problem = refusal(document)
    assert problem.field == field
    assert words in problem.detail


def test_a_generated_blinding_is_returned_and_hides_the_value() -> None:
    """Two requests for the same value have different commitments, and each caller can open its own."""
    first, second = read(RANGE, "range_proof"), read(RANGE, "range_proof")
    assert first.public_inputs != second.public_inputs
    assert first.generated_blinding is not None
    again = circuits.prepare("range_proof", {**RANGE, "blinding": first.generated_blinding})
    assert again.public_inputs == first.public_inputs


def test_a_given_blinding_is_used_and_not_returned() -> None:
    """The same request yields the same submission."""
    once, twice = (read({**RANGE, "blinding": "7"}, "range_proof", keyed=True) for _ in range(2))
    assert once == twice
    assert once.generated_blinding is None


@pytest.mark.parametrize("blinding", [{}, {"blinding": None}])
def test_an_idempotency_key_needs_a_blinding(blinding: dict[str, object]) -> None:
    """A blinding drawn anew would make each repetition another submission, and a derived one hides nothing."""
    problem = refusal({**RANGE, **blinding}, "range_proof", keyed=True)
    assert problem.field == "blinding"
    assert "Idempotency-Key" in problem.detail
    assert refusal({"circuit": "range_proof", "inputs": RANGE}, keyed=True).field == "inputs.blinding"


def test_nothing_private_is_shown() -> None:
    """Neither reprs nor refusals repeat an input."""
    secret = 4242424242
    prepared = read({**RANGE, "value": secret, "max": 2**40}, "range_proof")
    assert str(secret) not in repr(prepared)
    assert str(prepared.generated_blinding) not in repr(prepared)
    assert str(secret) not in refusal({**RANGE, "value": secret}, "range_proof").detail


def test_a_problem_survives_pickling() -> None:
    """Bodies are read in other processes, and exceptions are pickled."""
    sent = refusal({"leaves": [], "leaf_index": 0}, "merkle_proof")
    received = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own bytes
    assert received.document("r") == sent.document("r")


def test_a_listing_is_read() -> None:
    """Every filter is optional."""
    assert read_query(ListingQuery, {}) == ListingQuery(state=None, circuit=None, page_size=100, page_token=None)
    query = {"state": ["in_progress"], "circuit": ["addition"], "page_size": ["7"], "page_token": ["abc_-"]}
    listing = read_query(ListingQuery, query)
    assert (listing.state, listing.circuit) == (TaskState.IN_PROGRESS, "addition")
    assert (listing.page_size, listing.page_token) == (7, "abc_-")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": ["done"]}, "state"),
        ({"circuit": ["merkle"]}, "circuit"),
        ({"page_size": ["0"]}, "page_size"),
        ({"page_size": ["1001"]}, "page_size"),
        ({"page_size": ["ten"]}, "page_size"),
        ({"page_size": ["٣"]}, "page_size"),
        ({"page_token": ["a b"]}, "page_token"),
        ({"page_token": ["\udcff"]}, "page_token"),
        ({"states": ["pending"]}, "states"),
        ({"state": ["pending", "failed"]}, "state"),
    ],
)
def test_a_wrong_filter_is_named(query: dict[str, list[str]], field: str) -> None:
    """Query parameters are checked as strictly as bodies."""
    with pytest.raises(ApiProblem) as caught:
        read_query(ListingQuery, query)
    assert (caught.value.kind, caught.value.field) == (INVALID_FIELD, field)


def test_a_wait_is_bounded() -> None:
    """From no wait to a minute, in whole seconds."""
    queries: list[dict[str, list[str]]] = [{}, {"wait": ["0"]}, {"wait": ["60"]}]
    assert [read_query(WaitQuery, query).wait for query in queries] == [0, 0, 60]
    for wrong in ("61", "-1", "1.5", "", "abc"):
        with pytest.raises(ApiProblem) as caught:
            read_query(WaitQuery, {"wait": [wrong]})
        assert caught.value.field == "wait"


def test_endpoints_without_parameters_reject_all() -> None:
    """A misplaced parameter is not ignored."""
    read_query(NoParameters, {})
    with pytest.raises(ApiProblem):
        read_query(NoParameters, {"wait": ["1"]})


@pytest.mark.parametrize("text", ["", "a" * 65, "a b", "é", "a/b", "a\n"])
def test_an_impossible_id_is_not_found(text: str) -> None:
    """The network is not asked for ids that cannot exist."""
    with pytest.raises(ApiProblem) as caught:
        read_task_id(text)
    assert caught.value.kind is NO_SUCH_TASK
