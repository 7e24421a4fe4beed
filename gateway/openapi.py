"""The description of the API (OpenAPI 3.1), put together from the rules that the code itself goes by.

Patterns, bounds, states, circuits and kinds of problem are taken from where they are enforced. What is
written here by hand, a test holds against the router and against real answers.
"""

from collections.abc import Iterable, Mapping

from gateway import problems, requests
from gateway.idempotency import HEADER, KEY_PATTERN
from gateway.schemas import ANSWERS, parameters, reference, request_schemas
from zkp.daemon.problems import CONTENT_TYPE, ProblemKind
from zkp.proofs import circuits
from zkp.protocol.limits import TASK_ID_PATTERN, anchored

Json = Mapping[str, object]

_API_VERSION = "1.0"  # of these pages: grows when they do, whatever the release
_GUARDED = (
    problems.INVALID_HEADER,
    problems.UNAUTHENTICATED,
    problems.FORBIDDEN,
    problems.RATE_LIMITED,
)
_ANYWHERE = (problems.MALFORMED, problems.EXPECTATION_FAILED, problems.INTERNAL)
_NETWORK = (problems.NETWORK_UNAVAILABLE, problems.NETWORK_FAULT)
_SUBMITS = (
    *_GUARDED,
    *_NETWORK,
    problems.INVALID_JSON,
    problems.INVALID_FIELD,
    problems.BODY_TIMEOUT,
    problems.KEY_REUSED,
    problems.BODY_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.BUSY,
)
_READS = (*_GUARDED, *_NETWORK, problems.INVALID_FIELD)
_READS_ONE = (*_READS, problems.NO_SUCH_TASK)
_HEADERS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}},
}
_LOCATION = {"Location": {"description": "the task's page", "schema": {"type": "string"}}}


def document(max_body: int) -> dict[str, object]:
    """The whole description, for a gateway that reads bodies of up to `max_body` bytes."""
    task, shortcut = "/api/v1/tasks/{id}", "/api/v1/tasks"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Zero-knowledge proofs",
            "version": _API_VERSION,
            "description": _about(max_body),
        },
        "security": [{"clientCertificate": []}, {"apiKey": []}],
        "paths": {
            "/api/v1/tasks": {"get": _list(), "post": _submit("submitTask", "task", "Submission")},
            f"{shortcut}/merkle": {"post": _submit("submitMerkleProof", "merkle_proof", "MerkleRequest")},
            f"{shortcut}/range": {"post": _submit("submitRangeProof", "range_proof", "RangeRequest")},
            f"{shortcut}/addition": {"post": _submit("submitAddition", "addition", "AdditionRequest")},
            task: {"parameters": [_parameter_id()], "get": _get(), "delete": _cancel()},
            f"{task}/proof": {"parameters": [_parameter_id()], "get": _proof()},
            "/health": {"get": _state("health", "Whether this gateway can serve")},
            "/ready": {"get": _state("ready", "Whether to send callers to this gateway")},
            "/openapi.json": {"get": _description()},
        },
        "components": {
            "schemas": {**request_schemas(max_body), **ANSWERS},
            "securitySchemes": {
                "clientCertificate": {
                    "type": "mutualTLS",
                    "description": "a certificate of the network with the role client, gateway or admin",
                },
                "apiKey": {"type": "http", "scheme": "bearer", "description": "a key that the operator made"},
            },
        },
    }


def _about(max_body: int) -> str:
    return (
        "Submit a task, wait for it, fetch its proof; anyone can check that with the circuit's verifying key.\n\n"
        "Refusals are problem details (RFC 9457); `field` names what is wrong, `type` tells causes apart. "
        f"Bodies are UTF-8 JSON of at most {max_body} bytes, with no unknown and no doubled keys; one that fits "
        "its schema is accepted, except where a description states a rule between fields in words. Every answer "
        "carries X-Request-Id, the caller's own if it matches [A-Za-z0-9._-]{1,64}. Requests are limited "
        "for each caller; private inputs are never logged and never returned."
    )


def _submit(operation: str, circuit: str, schema: str) -> Json:
    known = circuits.CATALOGUE.get(circuit)
    return {
        "operationId": operation,
        "summary": f"Ask for a proof that {known.statement}" if known else "Ask for a proof of any circuit",
        "parameters": [_idempotency_key()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference(schema)}}},
        "responses": {
            "202": {
                "description": "a majority of the coordinators has the task",
                "headers": _LOCATION,
                "content": {"application/json": {"schema": reference("Accepted")}},
            },
            **_refusals(_SUBMITS),
        },
    }


def _list() -> Json:
    token = {"page_token": "$response.body#/next_page_token"}
    page = {
        **_json("a page of tasks, without their proofs", "TaskPage"),
        "links": {"nextPage": {"operationId": "listTasks", "parameters": token, "description": "the page after"}},
    }
    return {
        "operationId": "listTasks",
        "summary": "List tasks, newest first",
        "parameters": parameters(requests.ListingQuery),
        "responses": {"200": page, **_refusals(_READS)},
    }


def _get() -> Json:
    return {
        "operationId": "getTask",
        "summary": "Look at a task, or wait for its end",
        "parameters": parameters(requests.Wait),
        "responses": {"200": _json("the task as it is now", "Task"), **_refusals(_READS_ONE)},
    }


def _cancel() -> Json:
    return {
        "operationId": "cancelTask",
        "summary": "Cancel a task; cancelling it again succeeds",
        "responses": {
            "200": _json("the cancelled task", "Task"),
            **_refusals((*_READS_ONE, problems.TASK_ENDED)),
        },
    }


def _proof() -> Json:
    return {
        "operationId": "getProof",
        "summary": "Fetch what `zkp verify` reads, or wait for it",
        "parameters": parameters(requests.Wait),
        "responses": {
            "200": _json("the proof document", "ProofDocument"),
            **_refusals((*_READS_ONE, problems.NOT_COMPLETED)),
        },
    }


def _state(operation: str, summary: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "security": [],
        "responses": {
            "200": _json("yes", "State"),
            "503": _json("no: the proving network cannot be reached, or this gateway is stopping", "State"),
            **_refusals(()),
        },
    }


def _description() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "describe",
        "summary": "This description",
        "security": [],
        "responses": {
            "200": {"description": "OpenAPI 3.1", "content": content},
            **_refusals(()),
        },
    }


def _refusals(kinds: Iterable[ProblemKind]) -> dict[str, object]:
    """The kinds, and those that a request to any page may meet."""
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in sorted((*kinds, *_ANYWHERE), key=lambda kind: kind.status):
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _refusal(status, causes) for status, causes in by_status.items()}


def _refusal(status: int, causes: Iterable[ProblemKind]) -> Json:
    causes = tuple(causes)
    types = {"properties": {"type": {"enum": [kind.type_uri for kind in causes]}, "status": {"const": status}}}
    schema = {"allOf": [reference("Problem"), types]}
    answer: dict[str, object] = {
        "description": "; ".join(kind.title for kind in causes),
        "content": {CONTENT_TYPE: {"schema": schema}},
    }
    if status in _HEADERS:
        answer["headers"] = _HEADERS[status]
    return answer


def _json(description: str, schema: str) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": reference(schema)}}}


def _parameter_id() -> Json:
    schema = {"type": "string", "pattern": anchored(TASK_ID_PATTERN)}
    return {"name": "id", "in": "path", "required": True, "description": "the task's id", "schema": schema}


def _idempotency_key() -> Json:
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": (
            "the same key and body from the same caller is the same task, however often it is sent; another "
            "body under that key is refused. A range proof then needs its blinding given"
        ),
        "schema": {"type": "string", "pattern": anchored(KEY_PATTERN)},
    }
