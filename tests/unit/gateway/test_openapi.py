"""The description of the API is complete, and agrees with the code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway import openapi, problems, tasks_json
from gateway.app import application
from gateway.callers import ApiKeys, Callers
from gateway.handlers import BodyLimits, TaskHandlers
from gateway.middleware import AuthMiddleware, RequestMiddleware
from gateway.problems import KINDS, invalid_field
from gateway.ratelimit import RateLimit
from gateway.requests import read_submission
from tests.unit.gateway.json_schema import complaint
from tests.unit.gateway.sample_tasks import COMPLETED, CREATED, FAILED, PENDING
from zkp.client import task_json
from zkp.client.model import Accepted

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document(6_000_000)))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
ELSEWHERE = {problems.NO_SUCH_PAGE, problems.METHOD_NOT_ALLOWED}  # of no page, so of no operation


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method, operation."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method.upper(), operation


def router() -> set[tuple[str, str]]:
    """Every path and method that is served."""
    pages = TaskHandlers(None, None, BodyLimits(1, 1), 1)  # type: ignore[arg-type]  # nothing is served
    guard = AuthMiddleware(Callers(ApiKeys()), RateLimit(1, 1, 1, lambda: 0.0), None, lambda: CREATED)  # type: ignore[arg-type]
    edge = RequestMiddleware(CollectorRegistry(), lambda: 0.0)
    app: web.Application = application(pages, edge, guard, healthy=lambda: True, ready=lambda: True, max_body=1)
    return {(route.resource.canonical, route.method) for route in app.router.routes() if route.resource}


def test_exactly_the_existing_endpoints_are_described() -> None:
    """Paths and methods are those of the router."""
    assert {(path, method) for path, method, _ in operations()} == router()


def test_every_problem_kind_is_described() -> None:
    """A refusal that no operation lists would surprise callers."""
    text = json.dumps([operation for _, _, operation in operations()])
    assert [kind.slug for kind in KINDS if kind.type_uri not in text and kind not in ELSEWHERE] == []


def test_operations_have_ids_and_summaries() -> None:
    """Generated clients need names, people need a sentence."""
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for _, _, operation in operations())


def test_paths_declare_their_parameters() -> None:
    """What stands in braces is described as a path parameter."""
    for path, item in DOCUMENT["paths"].items():
        assert ("{id}" in path) == any(one["name"] == "id" for one in item.get("parameters", ()))


def test_every_reference_resolves() -> None:
    """And every schema is used."""
    text = json.dumps(DOCUMENT)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred == set(SCHEMAS)


@pytest.mark.parametrize("name", ["MerkleRequest", "RangeRequest", "AdditionRequest", "Submission"])
def test_request_examples_fit_their_schema_and_are_accepted(name: str) -> None:
    """An example that is copied works."""
    circuit = {"MerkleRequest": "merkle_proof", "RangeRequest": "range_proof", "AdditionRequest": "addition"}
    assert SCHEMAS[name]["examples"]
    for example in SCHEMAS[name]["examples"]:
        assert complaint(example, SCHEMAS[name], DOCUMENT) is None
        assert read_submission(json.dumps(example).encode(), circuit.get(name), keyed=True).public_inputs


@pytest.mark.parametrize("task", [PENDING, COMPLETED, FAILED], ids=lambda task: str(task.state))
def test_answers_fit_their_schemas(task: Any) -> None:
    """Tasks in any state, lists of them, answers to submissions."""
    page = {"tasks": [tasks_json.summary(task)], "next_page_token": None}
    accepted = tasks_json.accepted(Accepted(task, duplicate=False), generated_blinding="7")
    for value, name in ((tasks_json.detail(task), "Task"), (page, "TaskPage"), (accepted, "Accepted")):
        assert complaint(value, SCHEMAS[name], DOCUMENT) is None


def test_proofs_and_problems_fit_their_schemas() -> None:
    """With and without a field."""
    proof = task_json.proof_document(COMPLETED)
    assert complaint(proof, SCHEMAS["ProofDocument"], DOCUMENT) is None
    for problem in (invalid_field("a", "b"), problems.ApiProblem(problems.BUSY, "c")):
        assert complaint(problem.document("r"), SCHEMAS["Problem"], DOCUMENT) is None


def test_schemas_refuse_what_does_not_fit() -> None:
    """The checks above are able to fail."""
    task = tasks_json.detail(COMPLETED)
    wrong = {"state": "done", "attempt": "1", "created_at": 7, "more": 1, "proof": {}}
    for name, value in wrong.items():
        assert complaint({**task, name: value}, SCHEMAS["Task"], DOCUMENT) is not None
    del task["id"]
    assert complaint(task, SCHEMAS["Task"], DOCUMENT) is not None
