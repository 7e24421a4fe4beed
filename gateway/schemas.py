"""JSON schemas of request and response bodies, for the API description.

Request schemas are generated from the models that validate requests; tests check response schemas against real
responses.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.problems import KINDS
from gateway.requests import SUBMISSIONS
from zkp.client.model import TaskState
from zkp.daemon.health import Status
from zkp.proofs import circuits
from zkp.proofs.field import ORDER
from zkp.protocol.limits import SHA256_PATTERN, TASK_ID_PATTERN, anchored

Json = Mapping[str, object]

_NUMBER = "an integer: as a JSON number, a decimal string, or a 0x… hex string"
_LEAF_BYTES = len(str(ORDER)) + len('"", ')  # of a body, at most, per leaf written as a decimal string
_OTHER_BYTES = 512  # of a body, around its leaves
_DECIMAL = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,76})$"}
_CIRCUIT = {"type": "string", "enum": [*circuits.NAMES]}
_TIMESTAMP = {"type": ["string", "null"], "format": "date-time"}
_SHA256 = {"type": ["string", "null"], "pattern": anchored(SHA256_PATTERN)}
_PUBLIC_INPUTS = {"type": "array", "items": _DECIMAL, "description": "in the circuit's order"}
_POINT = {"type": "array", "items": _DECIMAL, "minItems": 3, "maxItems": 3}
_PAIR = {"type": "array", "items": _DECIMAL, "minItems": 2, "maxItems": 2}


def reference(name: str) -> dict[str, str]:
    """Return a reference to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, optional: tuple[str, ...] = (), **more: object) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


_SUMMARY: Json = {
    "id": {"type": "string", "pattern": anchored(TASK_ID_PATTERN)},
    "circuit": {"type": "string"},
    "state": {"type": "string", "enum": [*TaskState]},
    "attempt": {
        "type": "integer",
        "minimum": 0,
        "description": "the current or last attempt; 0 before the first",
    },
    "retries": {"type": "integer", "minimum": 0},
    "max_retries": {"type": "integer", "minimum": 0},
    "worker_id": {"type": ["string", "null"]},
    "public_inputs": _PUBLIC_INPUTS,
    "verifying_key_sha256": _SHA256,
    "error": {"anyOf": [reference("TaskError"), {"type": "null"}]},
    "created_at": _TIMESTAMP,
    "assigned_at": _TIMESTAMP,
    "started_at": _TIMESTAMP,
    "finished_at": _TIMESTAMP,
    "links": reference("Links"),
}

RESPONSES: Json = {
    "Accepted": _object(
        {
            "id": {"type": "string", "pattern": anchored(TASK_ID_PATTERN)},
            "circuit": _CIRCUIT,
            "state": {"type": "string", "enum": [*TaskState]},
            "duplicate": {"type": "boolean", "description": "the task existed before this request"},
            "public_inputs": _PUBLIC_INPUTS,
            "links": reference("Links"),
            "blinding": {**_DECIMAL, "description": "generated because the request had none; keep it secret"},
        },
        optional=("blinding",),
    ),
    "Task": _object({**_SUMMARY, "proof": {"anyOf": [reference("Proof"), {"type": "null"}]}}),
    "TaskSummary": _object(_SUMMARY),
    "TaskPage": _object(
        {
            "tasks": {"type": "array", "items": reference("TaskSummary")},
            "next_page_token": {"type": ["string", "null"], "description": "null on the last page"},
        }
    ),
    "TaskError": _object({"code": {"type": "string"}, "message": {"type": "string"}}),
    "Links": _object(
        {
            "self": {"type": "string", "format": "uri-reference"},
            "wait": {"type": "string", "format": "uri-reference"},
            "proof": {"type": "string", "format": "uri-reference"},
        }
    ),
    "Proof": _object(
        {
            "pi_a": _POINT,
            "pi_b": {"type": "array", "items": _PAIR, "minItems": 3, "maxItems": 3},
            "pi_c": _POINT,
            "protocol": {"const": "groth16"},
            "curve": {"const": "bn128"},
        },
        description="in snarkjs format",
    ),
    "ProofDocument": _object(
        {
            "circuit": _CIRCUIT,
            "proof": reference("Proof"),
            "public_inputs": _PUBLIC_INPUTS,
            "task_id": {"type": "string", "pattern": anchored(TASK_ID_PATTERN)},
            "verifying_key_sha256": {"type": "string", "pattern": anchored(SHA256_PATTERN)},
        }
    ),
    "State": _object({"status": {"type": "string", "enum": [Status.OK, Status.UNAVAILABLE]}}),
    "Problem": _object(
        {
            "type": {"type": "string", "enum": [kind.type_uri for kind in KINDS]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what is wrong, and what to do"},
            "request_id": {"type": "string"},
            "field": {
                "type": "string",
                "description": "path of the field, or name of the header or parameter",
            },
        },
        optional=("field",),
    ),
}


def request_schemas(max_body: int) -> dict[str, object]:
    """Return the schemas of request bodies.

    Args:
        max_body: Largest request body in bytes; limits the described length of lists.
    """
    models = tuple(SUBMISSIONS.values())
    template = "#/components/schemas/{model}"
    _, generated = models_json_schema([(model, "validation") for model in models], ref_template=template)
    shared: dict[str, object] = {}
    schemas = {name: _simplify(schema, shared) for name, schema in generated["$defs"].items()}
    for circuit, model in zip(circuits.CATALOGUE.values(), models, strict=True):
        sample = dict(circuit.sample)
        schemas[circuit.request.__name__]["examples"] = [sample]
        schemas[model.__name__]["examples"] = [{"circuit": circuit.name, "inputs": sample, "max_retries": 3}]
    leaves = schemas["MerkleRequest"]["properties"]["leaves"]
    leaves["maxItems"] = max(1, min(leaves["maxItems"], (max_body - _OTHER_BYTES) // _LEAF_BYTES))
    schemas["Submission"] = {
        "oneOf": [reference(model.__name__) for model in models],
        "discriminator": {
            "propertyName": "circuit",
            "mapping": {name: reference(model.__name__)["$ref"] for name, model in SUBMISSIONS.items()},
        },
        "examples": [example for model in models for example in schemas[model.__name__]["examples"]],
    }
    return {**shared, **schemas}


def parameters(model: type[BaseModel]) -> list[Json]:
    """Return the query parameters of a model."""
    properties = _simplify(model.model_json_schema(), {})["properties"]
    return [_parameter(name, schema) for name, schema in properties.items()]


def _parameter(name: str, schema: dict[str, Any]) -> Json:
    description = schema.pop("description")
    if "anyOf" in schema:  # null stands for an absent parameter
        schema = schema["anyOf"][0]
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _simplify(schema: Any, shared: dict[str, object]) -> Any:  # noqa: ANN401 - any part of a JSON schema
    """Return the schema without pydantic's titles; schemas of numbers, which are long, move to `shared`."""
    if isinstance(schema, list):
        return [_simplify(part, shared) for part in schema]
    if not isinstance(schema, dict):
        return schema
    forms = schema.get("anyOf", ())
    if any("maxLength" in form for form in forms):
        name = schema["title"]
        shared[name] = {"description": _NUMBER, "anyOf": forms}
        own = {"description": schema["description"]} if "description" in schema else {}
        return {**reference(name), **own}
    return {
        key: _simplify(value, shared) for key, value in schema.items() if key != "title" or isinstance(value, dict)
    }
