"""What callers ask for, out of bodies and query strings; every refusal names the field and the cure.

Pure, and run on a process of its own for bodies (see `preparation`): hashing a long list takes seconds.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

from pydantic import Field, create_model

from gateway.fields import Choice, Text, Whole
from gateway.idempotency import HEADER
from gateway.json_body import parse_object
from gateway.problems import NO_SUCH_TASK, ApiProblem, wrong_field
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
    """A body of the general page: a circuit's request with its name. Each circuit has a model of its own."""

    circuit: Annotated[str, _CIRCUIT]
    inputs: Request
    max_retries: Annotated[
        Annotated[int, Whole(0, MAX_RETRIES)] | None,
        Field(description="how often a lost or failed attempt is tried again; null: the network's default"),
    ] = None


class _Unnamed(Fields):
    """A body without a known circuit. Reading it fails: for an unknown member, else for the circuit."""

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
"""The model of the general page's body, by circuit."""


class Nothing(Fields):
    """A query without parameters."""


class Wait(Fields):
    """The query of a page that can wait."""

    wait: Annotated[
        Annotated[int, Whole(0, MAX_WAIT_S, "seconds", text=True)],
        Field(description="answer when the task has ended, or after this many seconds"),
    ] = 0


class ListingQuery(Fields):
    """The query of a listing: None is every state, and every circuit."""

    state: Annotated[
        Annotated[str, Choice(tuple(TaskState))] | None, Field(description="only tasks in this state")
    ] = None
    circuit: Annotated[Annotated[str, _CIRCUIT] | None, Field(description="only tasks of this circuit")] = None
    page_size: Annotated[
        Annotated[int, Whole(1, MAX_PAGE_SIZE, "tasks", text=True)], Field(description="tasks on a page")
    ] = PAGE_SIZE
    page_token: Annotated[
        Annotated[str, Text(PAGE_TOKEN_PATTERN, "is invalid; pass next_page_token unchanged")] | None,
        Field(description="next_page_token of the page before, for the same filters; opaque"),
    ] = None


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """What is submitted; the task id comes from elsewhere."""

    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None
    # The blinding that was drawn because the caller gave none: a secret of the caller's, who needs it to
    # open the commitment one day.
    drawn_blinding: str | None = field(default=None, repr=False)


def read_submission(body: bytes, circuit: str | None, *, keyed: bool) -> PreparedRequest:
    """Prepare the submission that a body asks for; raises a `ApiProblem`.

    With a `circuit`, the body holds its request; without, {"circuit", "inputs", "max_retries"}. `keyed`: the
    request carries an idempotency key, so that the same body must come to the same submission.
    """
    document = parse_object(body)
    if circuit is not None:
        known = circuits.find(circuit)
        return _prepare(known, _read(known.request, document), "", None, keyed=keyed)
    name = document.get("circuit")
    if not isinstance(name, str) or name not in SUBMISSIONS:
        name = _read(_Unnamed, document).circuit
    submission = _read(SUBMISSIONS[name], document)
    known = circuits.find(name)
    return _prepare(known, submission.inputs, "inputs.", submission.max_retries, keyed=keyed)


def read_task_id(text: str) -> str:
    """A task id from a path; one that cannot exist is not found."""
    if _TASK_ID.fullmatch(text) is None:
        raise ApiProblem(NO_SUCH_TASK, f"id: {TASK_ID_RULE}")
    return text


def read_query(model: type[F], query: Mapping[str, Sequence[str]]) -> F:
    """The parameters of a query string; raises a `ApiProblem`."""
    parameters = {name: values[0] for name, values in query.items()}
    found = _read(model, parameters)
    for name, values in query.items():
        if len(values) > 1:
            raise wrong_field(name, f"appears {len(values)} times; give it once")
    return found


def _prepare(
    circuit: Circuit, request: Request, prefix: str, max_retries: int | None, *, keyed: bool
) -> PreparedRequest:
    drawn = None
    if _BLINDING in type(request).model_fields and getattr(request, _BLINDING) is None:
        if keyed:
            # A blinding that follows from the request alone hides nothing, and a random one would make
            # every repetition another submission.
            cure = "draw a random number below the field's order, keep it, and send it with every repetition"
            raise wrong_field(f"{prefix}{_BLINDING}", f"must be given together with {HEADER}; {cure}")
        drawn = secrets.randbelow(ORDER)
        request = request.model_copy(update={_BLINDING: drawn})
    prepared = circuits.prepare_request(circuit, request)
    shown = None if drawn is None else str(drawn)
    return PreparedRequest(circuit.name, prepared.inputs, prepared.public_inputs, max_retries, shown)


def _read(model: type[F], document: Mapping[str, object]) -> F:
    try:
        return model.read(document)
    except InputError as error:
        raise wrong_field(error.field, error.message) from None
