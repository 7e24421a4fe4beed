"""The shapes of bodies, as JSON schemas for the API description; bounds come from where they are enforced."""

from collections.abc import Mapping

from client.records import TaskState
from gateway.problems import KINDS
from proofs import circuits
from proofs.merkle_proof import MAX_LEAVES
from protocol.limits import MAX_RETRIES, SHA256_PATTERN, TASK_ID_PATTERN, anchored

Json = Mapping[str, object]

_DECIMAL = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,76})$"}
_NUMBER = {
    "description": "a whole number: as such, as a decimal string, or as a 0x… hex string",
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^([0-9]+|0[xX][0-9a-fA-F]+)$"},
    ],
}
_CIRCUIT = {"type": "string", "enum": [*circuits.NAMES]}
_MOMENT = {"type": ["string", "null"], "format": "date-time"}
_SHA256 = {"type": ["string", "null"], "pattern": anchored(SHA256_PATTERN)}
_PUBLIC_INPUTS = {"type": "array", "items": _DECIMAL, "description": "in the circuit's order"}
_POINT = {"type": "array", "items": _DECIMAL, "minItems": 3, "maxItems": 3}
_PAIR = {"type": "array", "items": _DECIMAL, "minItems": 2, "maxItems": 2}


def reference(name: str) -> dict[str, str]:
    """A reference to one of SCHEMAS from within the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, optional: tuple[str, ...] = (), **more: object) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


def _request(circuit: str, properties: Json, optional: tuple[str, ...] = ()) -> Json:
    return _object(properties, optional, examples=[dict(circuits.find(circuit).sample)])


_SUMMARY: Json = {
    "id": {"type": "string", "pattern": anchored(TASK_ID_PATTERN)},
    "circuit": {"type": "string"},
    "state": {"type": "string", "enum": [*TaskState]},
    "attempt": {"type": "integer", "minimum": 0, "description": "the current or last; 0 before the first"},
    "retries": {"type": "integer", "minimum": 0},
    "max_retries": {"type": "integer", "minimum": 0},
    "worker_id": {"type": ["string", "null"]},
    "public_inputs": _PUBLIC_INPUTS,
    "verifying_key_sha256": _SHA256,
    "error": {"anyOf": [reference("TaskError"), {"type": "null"}]},
    "created_at": _MOMENT,
    "assigned_at": _MOMENT,
    "started_at": _MOMENT,
    "finished_at": _MOMENT,
    "links": reference("Links"),
}

SCHEMAS: Json = {
    "MerkleRequest": _request(
        "merkle_proof",
        {
            "leaves": {"type": "array", "items": _NUMBER, "minItems": 1, "maxItems": MAX_LEAVES},
            "leaf_index": {**_NUMBER, "description": "which leaf is the prover's, from 0"},
        },
    ),
    "RangeRequest": _request(
        "range_proof",
        {
            "value": _NUMBER,
            "min": _NUMBER,
            "max": _NUMBER,
            "blinding": {
                "description": (
                    "hides the value in its commitment: random, below the field's order. Drawn here when it is "
                    "not given, and returned once"
                ),
                "anyOf": [_NUMBER, {"type": "null"}],
            },
        },
        optional=("blinding",),
    ),
    "AdditionRequest": _request("addition", {"a": _NUMBER, "b": _NUMBER}),
    "Submission": _object(
        {
            "circuit": _CIRCUIT,
            "inputs": {
                "anyOf": [
                    reference("MerkleRequest"),
                    reference("RangeRequest"),
                    reference("AdditionRequest"),
                ]
            },
            "max_retries": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_RETRIES},
        },
        optional=("max_retries",),
        examples=[
            {"circuit": name, "inputs": dict(circuit.sample), "max_retries": 3}
            for name, circuit in circuits.CATALOGUE.items()
        ],
    ),
    "Accepted": _object(
        {
            "id": {"type": "string", "pattern": anchored(TASK_ID_PATTERN)},
            "circuit": _CIRCUIT,
            "state": {"type": "string", "enum": [*TaskState]},
            "duplicate": {"type": "boolean", "description": "the task was there before this request"},
            "public_inputs": _PUBLIC_INPUTS,
            "links": reference("Links"),
            "blinding": {**_DECIMAL, "description": "drawn for the caller, who gave none: keep it secret"},
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
        description="as snarkjs writes it",
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
    "State": _object({"status": {"type": "string", "enum": ["ok", "unavailable"]}}),
    "Problem": _object(
        {
            "type": {"type": "string", "enum": [kind.type_uri for kind in KINDS]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what is wrong, and what would be right"},
            "request_id": {"type": "string"},
            "field": {"type": "string", "description": "path of the field, or name of the header or parameter"},
        },
        optional=("field",),
    ),
}
