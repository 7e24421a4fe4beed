"""The description of requests and their validation agree: what the schema allows is accepted, and nothing else.

Some rules relate fields to each other, which no JSON schema can state; the description states them in words, and the
values made here follow them: `leaf_index` is below the number of leaves and no leaf is the mark of an empty place;
min <= value <= max; a range proof with an Idempotency-Key has a blinding.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import openapi
from gateway.config import GatewaySettings
from gateway.problems import INVALID_FIELD, ApiProblem
from gateway.requests import ListingQuery, WaitQuery, read_query, read_submission
from tests.unit.gateway.json_schema import complaint
from tests.unit.gateway.schema_values import FOREIGN, values
from zkp.proofs.circuit import Circuit
from zkp.proofs.circuits import CATALOGUE
from zkp.proofs.strict_json import exact
from zkp.proofs.tree import EMPTY

MAX_BODY = GatewaySettings.model_fields["max_body"].default
DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document(MAX_BODY)))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
repeatable = settings(deadline=None, derandomize=True, max_examples=20)
every_circuit = pytest.mark.parametrize("circuit", CATALOGUE.values(), ids=lambda circuit: circuit.name)


def number(written: Any) -> int:
    """The number that a JSON value stands for."""
    return int(written, 16 if written[:2].lower() == "0x" else 10) if isinstance(written, str) else int(written)


def follow_the_rules(circuit: str, request: dict[str, Any]) -> dict[str, Any]:
    """The same request, satisfying the relations between fields that the description states."""
    if circuit == "merkle_proof":
        leaves = [leaf for leaf in request["leaves"] if number(leaf) != EMPTY] or [1]
        index = number(request["leaf_index"]) % len(leaves)
        return {"leaves": leaves, "leaf_index": type(request["leaf_index"])(index)}
    if circuit == "range_proof":
        low, value, high = sorted((request[name] for name in ("min", "value", "max")), key=number)
        return {**request, "min": low, "value": value, "max": high}
    return request


def accepted(document: object, circuit: str | None) -> bool:
    """Whether a gateway prepares a submission from the document."""
    try:
        read_submission(json.dumps(document).encode(), circuit, keyed=False)
    except ApiProblem as problem:
        if problem.kind is not INVALID_FIELD:
            raise
        return False
    return True


@every_circuit
@repeatable
@given(data=st.data())
def test_what_the_schema_allows_is_accepted(circuit: Circuit, data: st.DataObject) -> None:
    """Both endpoints prepare every request that fits its schema, in all forms of numbers, 415.0 included."""
    schema = SCHEMAS[circuit.request.__name__]
    request = follow_the_rules(circuit.name, data.draw(values(schema, DOCUMENT)))
    general = {"circuit": circuit.name, "inputs": request}
    assert complaint(request, schema, DOCUMENT) is None
    assert complaint(general, SCHEMAS["Submission"], DOCUMENT) is None
    assert accepted(request, circuit.name)
    assert accepted(general, None)


@every_circuit
@pytest.mark.parametrize("value", FOREIGN, ids=repr)
def test_what_the_schema_refuses_is_refused(circuit: Circuit, value: object) -> None:
    """Each field of a valid request, and an unknown one, with a value that few fields accept."""
    schema = SCHEMAS[circuit.request.__name__]
    for name in (*circuit.sample, "unknown"):
        changed = {**circuit.sample, name: value}
        fits = complaint(changed, schema, DOCUMENT) is None
        assert accepted(changed, circuit.name) == fits, name
        assert accepted({"circuit": circuit.name, "inputs": changed}, None) == fits, name


@every_circuit
def test_fields_that_the_schema_requires_are_required(circuit: Circuit) -> None:
    """And those that it does not may be left out."""
    schema = SCHEMAS[circuit.request.__name__]
    for name in circuit.sample:
        fewer = {key: value for key, value in circuit.sample.items() if key != name}
        assert accepted(fewer, circuit.name) == (name not in schema["required"]), name


@pytest.mark.parametrize("other", CATALOGUE)
@every_circuit
def test_inputs_of_another_circuit_fit_no_schema_and_are_refused(circuit: Circuit, other: str) -> None:
    """The description ties `inputs` to `circuit`, as the validation does."""
    document = {"circuit": circuit.name, "inputs": dict(CATALOGUE[other].sample)}
    fits = complaint(document, SCHEMAS["Submission"], DOCUMENT) is None
    assert fits == (circuit.name == other)
    assert accepted(document, None) == fits


@pytest.mark.parametrize("value", [0, 10, 3.0, None, -1, 11, 1.5, True, "3"])
def test_max_retries_are_described_as_they_are_accepted(value: object) -> None:
    """Bounds, null and 3.0 included."""
    document = {"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": value}
    assert accepted(document, None) == (complaint(document, SCHEMAS["Submission"], DOCUMENT) is None)


@pytest.mark.parametrize(
    ("literal", "meant"),
    [("415.0", 415), ("4.15e2", 415), ("9007199254740993.0", 9007199254740993), ("1.5", 1.5), ("1e-1", 0.1)],
)
def test_an_integer_with_a_point_is_read_exactly(literal: str, meant: float) -> None:
    """A float would turn 9007199254740993.0 into another statement."""
    assert exact(literal) == meant
    body = f'{{"a": {literal}, "b": 0}}'.encode()
    if isinstance(meant, int):
        assert read_submission(body, "addition", keyed=True).public_inputs == (str(meant),)
        return
    with pytest.raises(ApiProblem):
        read_submission(body, "addition", keyed=True)


@pytest.mark.parametrize(
    ("operation", "model"), [("listTasks", ListingQuery), ("getTask", WaitQuery), ("getProof", WaitQuery)]
)
@repeatable
@given(data=st.data())
def test_queries_that_fit_the_description_are_accepted(operation: str, model: Any, data: st.DataObject) -> None:
    """Every described parameter with any value of its schema, page tokens included."""
    items = [one for item in DOCUMENT["paths"].values() for method, one in item.items() if method != "parameters"]
    (found,) = [one for one in items if one["operationId"] == operation]
    for parameter in found["parameters"]:
        value = data.draw(values(parameter["schema"], DOCUMENT))
        text = f"{value:.0f}" if isinstance(value, float) else str(value)
        read_query(model, {parameter["name"]: [text]})


def test_the_longest_list_that_is_described_fits_into_a_body() -> None:
    """As decimal strings of 77 digits, with a comma and a blank between them, as most programs write them."""
    schema = SCHEMAS["MerkleRequest"]["properties"]["leaves"]
    longest = str(SCHEMAS["FieldElement"]["anyOf"][0]["maximum"])
    body = json.dumps({"circuit": "merkle_proof", "inputs": {"leaves": [longest] * schema["maxItems"]}})
    assert schema["maxItems"] == 65_536
    assert len(body) <= MAX_BODY


@pytest.mark.parametrize("max_body", [1_000, 1_000_000, 5_000_000])
def test_a_gateway_with_a_smaller_limit_describes_what_fits(max_body: int) -> None:
    """The number of leaves follows the limit on bodies."""
    document: dict[str, Any] = openapi.document(max_body)
    most = document["components"]["schemas"]["MerkleRequest"]["properties"]["leaves"]["maxItems"]
    assert 1 <= most < 65_536
    assert len(json.dumps({"leaves": ["9" * 77] * most, "leaf_index": most - 1})) <= max_body
