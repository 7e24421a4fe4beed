"""API description (OpenAPI 3.1).

Patterns, bounds, states, circuits and problem kinds are taken from the code that enforces them. Tests check the
hand-written parts against the router and against real responses.
"""

from collections.abc import Iterable, Mapping

from gateway import problems, requests
from gateway.idempotency import HEADER, KEY_PATTERN
from gateway.schemas import RESPONSES, parameters, reference, request_schemas
from zkp.daemon.problems import CONTENT_TYPE, ProblemKind
from zkp.proofs import circuits
from zkp.protocol.limits import TASK_ID_PATTERN, anchored

Json = Mapping[str, object]

_API_VERSION = "1.0"  # of the API, independent of the release
_AUTHENTICATED = (
    problems.INVALID_HEADER,
    problems.UNAUTHENTICATED,
    problems.FORBIDDEN,
    problems.RATE_LIMITED,
)
_ANY_REQUEST = (problems.MALFORMED, problems.EXPECTATION_FAILED, problems.INTERNAL)
_NETWORK = (problems.NETWORK_UNAVAILABLE, problems.NETWORK_FAULT)
_SUBMITS = (
    *_AUTHENTICATED,
    *_NETWORK,
    problems.INVALID_JSON,
    problems.INVALID_FIELD,
    problems.BODY_TIMEOUT,
    problems.KEY_REUSED,
    problems.BODY_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.BUSY,
)
_READS = (*_AUTHENTICATED, *_NETWORK, problems.INVALID_FIELD)
_READS_ONE = (*_READS, problems.NO_SUCH_TASK)
_HEADERS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}},
}
_LOCATION = {"Location": {"description": "URL of the task", "schema": {"type": "string"}}}


def document(max_body: int) -> dict[str, object]:
    """Return the API description.

    Args:
        max_body: Largest accepted request body in bytes.
    """
    task, tasks = "/api/v1/tasks/{id}", "/api/v1/tasks"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Zero-knowledge proofs",
            "version": _API_VERSION,
            "description": _overview(max_body),
        },
        "security": [{"clientCertificate": []}, {"apiKey": []}],
        "paths": {
            tasks: {"get": _list(), "post": _submit("submitTask", "task", "Submission")},
            f"{tasks}/merkle": {"post": _submit("submitMerkleProof", "merkle_proof", "MerkleRequest")},
            f"{tasks}/range": {"post": _submit("submitRangeProof", "range_proof", "RangeRequest")},
            f"{tasks}/addition": {"post": _submit("submitAddition", "addition", "AdditionRequest")},
            task: {"parameters": [_id_parameter()], "get": _get(), "delete": _cancel()},
            f"{task}/proof": {"parameters": [_id_parameter()], "get": _proof()},
            "/health": {"get": _status("health", "Health of this gateway")},
            "/ready": {"get": _status("ready", "Readiness of this gateway for requests")},
            "/openapi.json": {"get": _openapi()},
        },
        "components": {
            "schemas": {**request_schemas(max_body), **RESPONSES},
            "securitySchemes": {
                "clientCertificate": {
                    "type": "mutualTLS",
                    "description": "a certificate of the network with the role client, gateway or admin",
                },
                "apiKey": {"type": "http", "scheme": "bearer", "description": "an API key from the operator"},
            },
        },
    }


def _overview(max_body: int) -> str:
    return (
        "Submit a task, wait for it, fetch its proof. Anyone can verify it with the circuit's verifying key.\n\n"
        "Errors are problem details (RFC 9457); `type` identifies the cause, `field` the invalid input. "
        f"Bodies are UTF-8 JSON of at most {max_body} bytes, without unknown or duplicate keys. A body that matches "
        "its schema is accepted, unless a description states an additional rule between fields. Every response "
        "carries X-Request-Id: the caller's own if it matches [A-Za-z0-9._-]{1,64}, otherwise a generated one. "
        "Requests are rate limited per caller. Private inputs are never logged and never returned."
    )


def _submit(operation: str, circuit: str, schema: str) -> Json:
    known = circuits.CATALOGUE.get(circuit)
    return {
        "operationId": operation,
        "summary": f"Request a proof that {known.statement}" if known else "Request a proof of any circuit",
        "parameters": [_idempotency_key_parameter()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference(schema)}}},
        "responses": {
            "202": {
                "description": "a majority of the coordinators has stored the task",
                "headers": _LOCATION,
                "content": {"application/json": {"schema": reference("Accepted")}},
            },
            **_problems(_SUBMITS),
        },
    }


def _list() -> Json:
    token = {"page_token": "$response.body#/next_page_token"}
    page = {
        **_json("a page of tasks, without their proofs", "TaskPage"),
        "links": {"nextPage": {"operationId": "listTasks", "parameters": token, "description": "the next page"}},
    }
    return {
        "operationId": "listTasks",
        "summary": "List tasks, newest first",
        "parameters": parameters(requests.ListingQuery),
        "responses": {"200": page, **_problems(_READS)},
    }


def _get() -> Json:
    return {
        "operationId": "getTask",
        "summary": "Get a task, or wait until it has ended",
        "parameters": parameters(requests.WaitQuery),
        "responses": {"200": _json("the current task", "Task"), **_problems(_READS_ONE)},
    }


def _cancel() -> Json:
    return {
        "operationId": "cancelTask",
        "summary": "Cancel a task; idempotent",
        "responses": {
            "200": _json("the cancelled task", "Task"),
            **_problems((*_READS_ONE, problems.TASK_ENDED)),
        },
    }


def _proof() -> Json:
    return {
        "operationId": "getProof",
        "summary": "Get the proof document, which `zkp verify` reads, or wait for it",
        "parameters": parameters(requests.WaitQuery),
        "responses": {
            "200": _json("the proof document", "ProofDocument"),
            **_problems((*_READS_ONE, problems.NOT_COMPLETED)),
        },
    }


def _status(operation: str, summary: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "security": [],
        "responses": {
            "200": _json("this gateway can serve", "State"),
            "503": _json("the proving network is unreachable, or this gateway is stopping", "State"),
            **_problems(()),
        },
    }


def _openapi() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "describe",
        "summary": "This description",
        "security": [],
        "responses": {
            "200": {"description": "OpenAPI 3.1", "content": content},
            **_problems(()),
        },
    }


def _problems(kinds: Iterable[ProblemKind]) -> dict[str, object]:
    """Return the problem responses: `kinds`, and those that any request may receive."""
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in sorted((*kinds, *_ANY_REQUEST), key=lambda kind: kind.status):
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _problem(status, causes) for status, causes in by_status.items()}


def _problem(status: int, causes: Iterable[ProblemKind]) -> Json:
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


def _id_parameter() -> Json:
    schema = {"type": "string", "pattern": anchored(TASK_ID_PATTERN)}
    return {"name": "id", "in": "path", "required": True, "description": "the task's id", "schema": schema}


def _idempotency_key_parameter() -> Json:
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": (
            "repeated requests with the same key, body and caller return the same task; a different body with the "
            "same key is rejected. A range proof must then include its blinding"
        ),
        "schema": {"type": "string", "pattern": anchored(KEY_PATTERN)},
    }
