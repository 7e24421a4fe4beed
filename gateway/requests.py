"""Validation of request bodies and query strings; every problem names the field and the remedy.

Pure. Bodies are read in a separate process (see `submission_pool`), since hashing a long list takes seconds.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from pydantic import Field, create_model

from gateway.fields import Choice, Integer, Text
from gateway.idempotency import HEADER
from gateway.json_body import parse_object
from gateway.problems import NO_SUCH_TASK, ApiProblem, invalid_field
from zkp.client.model import TaskState
from zkp.proofs import InputError, circuits
from zkp.proofs.circuit import Circuit
from zkp.proofs.field import ORDER
from zkp.proofs.request import Fields, Request
from zkp.protocol.limits import (
    MAX_PAGE_SIZE,
    MAX_RETRIES,
    PAGE_SIZE,
    PAGE_TOKEN_PATTERN,
    TASK_ID_PATTERN,
    TASK_ID_RULE,
)

MAX_WAIT_S = 60

_BLINDING = "blinding"
_CIRCUIT = Choice(circuits.NAMES)
_TASK_ID = re.compile(TASK_ID_PATTERN)

F = TypeVar("F", bound=Fields)


class SubmissionBody(Fields):
    """A body of the general endpoint: a circuit's name and request. Each circuit has its own model."""

    circuit: Annotated[str, _CIRCUIT]
    inputs: Request
    max_retries: Annotated[
        Annotated[int, Integer(0, MAX_RETRIES)] | None,
        Field(description="retries after a lost or failed attempt; null: the network's default"),
    ] = None


class _UnknownCircuitBody(Fields):
    """A body without a known circuit. Validation always fails: for an unknown member, otherwise for the circuit."""

    circuit: Annotated[str, _CIRCUIT]
    inputs: object = None
    max_retries: object = None


def _submission(circuit: Circuit) -> type[SubmissionBody]:
    name = circuit.request.__name__.removesuffix("Request")
    named = Literal[circuit.name]  # type: ignore[name-defined]  # the catalogue's names are data
    return create_model(
        f"{name}Submission", __base__=SubmissionBody, circuit=(named, ...), inputs=(circuit.request, ...)
    )


SUBMISSIONS: Mapping[str, type[SubmissionBody]] = {
    name: _submission(circuit) for name, circuit in circuits.CATALOGUE.items()
}
"""The models of the general endpoint's body, by circuit."""


class NoParameters(Fields):
    """A query without parameters."""


class WaitQuery(Fields):
    """The query of an endpoint that supports long polling."""

    wait: Annotated[
        Annotated[int, Integer(0, MAX_WAIT_S, "seconds", text=True)],
        Field(description="answer when the task has ended, or after this many seconds at the latest"),
    ] = 0


class ListingQuery(Fields):
    """The query of a listing; None for `state` or `circuit` means any."""

    state: Annotated[
        Annotated[str, Choice(tuple(TaskState))] | None, Field(description="only tasks in this state")
    ] = None
    circuit: Annotated[Annotated[str, _CIRCUIT] | None, Field(description="only tasks of this circuit")] = None
    page_size: Annotated[
        Annotated[int, Integer(1, MAX_PAGE_SIZE, "tasks", text=True)], Field(description="tasks per page")
    ] = PAGE_SIZE
    page_token: Annotated[
        Annotated[str, Text(PAGE_TOKEN_PATTERN, "is invalid; pass next_page_token unchanged")] | None,
        Field(description="next_page_token of the previous page, with the same filters; opaque"),
    ] = None


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A validated submission without a task id."""

    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None
    # The blinding that was generated because the caller gave none: a secret of the caller, needed to open the
    # commitment later.
    generated_blinding: str | None = field(default=None, repr=False)


def read_submission(body: bytes, circuit: str | None, *, keyed: bool) -> PreparedRequest:
    """Return the submission that a body describes.

    Args:
        body: The request body.
        circuit: The circuit whose request the body is; None for a body {"circuit", "inputs", "max_retries"}.
        keyed: The request has an idempotency key, so the same body must yield the same submission.

    Raises:
        ApiProblem: The body is invalid.
    """
    document = parse_object(body)
    if circuit is not None:
        known = circuits.find(circuit)
        return _prepare(known, _read(known.request, document), "", None, keyed=keyed)
    name = document.get("circuit")
    if not isinstance(name, str) or name not in SUBMISSIONS:
        name = _read(_UnknownCircuitBody, document).circuit
    submission = _read(SUBMISSIONS[name], document)
    known = circuits.find(name)
    return _prepare(known, submission.inputs, "inputs.", submission.max_retries, keyed=keyed)


def read_task_id(text: str) -> str:
    """Return the task id in a path.

    Raises:
        ApiProblem: The id is malformed; NO_SUCH_TASK, since such a task cannot exist.
    """
    if _TASK_ID.fullmatch(text) is None:
        raise ApiProblem(NO_SUCH_TASK, f"id: {TASK_ID_RULE}")
    return text


def read_query(model: type[F], query: Mapping[str, Sequence[str]]) -> F:
    """Return the parameters of a query string.

    Raises:
        ApiProblem: A parameter is unknown, invalid or repeated.
    """
    parameters = {name: values[0] for name, values in query.items()}
    found = _read(model, parameters)
    for name, values in query.items():
        if len(values) > 1:
            raise invalid_field(name, f"appears {len(values)} times; give it once")
    return found


def _prepare(
    circuit: Circuit, request: Request, prefix: str, max_retries: int | None, *, keyed: bool
) -> PreparedRequest:
    generated = None
    if _BLINDING in type(request).model_fields and getattr(request, _BLINDING) is None:
        if keyed:
            # A blinding derived from the request hides nothing, and a random one would make every repetition a
            # different submission.
            hint = "generate a random number below the field order, store it, and send it with every repetition"
            raise invalid_field(f"{prefix}{_BLINDING}", f"required with {HEADER}; {hint}")
        generated = secrets.randbelow(ORDER)
        request = request.model_copy(update={_BLINDING: generated})
    prepared = circuits.prepare_request(circuit, request)
    shown = None if generated is None else str(generated)
    return PreparedRequest(circuit.name, prepared.inputs, prepared.public_inputs, max_retries, shown)


def _read(model: type[F], document: Mapping[str, object]) -> F:
    try:
        return model.read(document)
    except InputError as error:
        raise invalid_field(error.field, error.message) from None
