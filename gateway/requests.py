"""What callers ask for, out of bodies and query strings; every refusal names the field and the cure.

Pure, and run on a process of its own for bodies (see `preparation`): hashing a long list takes seconds.
"""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from client.records import TaskState
from gateway.idempotency import HEADER
from gateway.json_body import parse_object
from gateway.problems import NO_SUCH_TASK, Problem, wrong_field
from proofs import InputError, circuits
from proofs.field import ORDER
from protocol.limits import (
    MAX_PAGE_SIZE,
    MAX_PAGE_TOKEN_CHARACTERS,
    MAX_RETRIES,
    PAGE_SIZE,
    TASK_ID_PATTERN,
    TASK_ID_RULE,
)

MAX_WAIT_S = 60
PAGING_PATTERN = rf"[A-Za-z0-9._~=+/:,-]{{1,{MAX_PAGE_TOKEN_CHARACTERS}}}"
STATES = tuple(TaskState)

_TASK_ID = re.compile(TASK_ID_PATTERN)
_PAGING = re.compile(PAGING_PATTERN)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_BLINDING = "blinding"
_SHOWN = 64  # characters of a caller's own name that are repeated in a refusal


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is submitted; the task id comes from elsewhere."""

    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None
    # The blinding that was drawn because the caller gave none: a secret of the caller's, who needs it to
    # open the commitment one day.
    drawn_blinding: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which tasks to list: None is every state, an empty circuit every circuit."""

    state: TaskState | None
    circuit: str
    page_size: int
    page_token: str


def read_submission(body: bytes, circuit: str | None, *, keyed: bool) -> Prepared:
    """Prepare the submission that a body asks for; raises a `Problem`.

    With a `circuit`, the body holds its request; without, {"circuit", "inputs", "max_retries"}. `keyed`: the
    request carries an idempotency key, so that the same body must come to the same submission.
    """
    document = parse_object(body)
    if circuit is not None:
        return _prepare(circuit, document, "", None, keyed=keyed)
    _refuse_unknown(document, ("circuit", "inputs", "max_retries"))
    name = _circuit(document.get("circuit"))
    inputs = document.get("inputs")
    if not isinstance(inputs, dict):
        raise wrong_field("inputs", f"must be an object with {', '.join(circuits.find(name).request)}")
    return _prepare(name, inputs, "inputs.", _max_retries(document.get("max_retries")), keyed=keyed)


def read_task_id(text: str) -> str:
    """A task id from a path; one that cannot exist is not found."""
    if _TASK_ID.fullmatch(text) is None:
        raise Problem(NO_SUCH_TASK, f"id: {TASK_ID_RULE}")
    return text


def read_wait(query: Mapping[str, Sequence[str]]) -> int:
    """The seconds for which a reader is ready to wait for the task's end."""
    parameters = _parameters(query, ("wait",))
    return _whole("wait", parameters.get("wait", "0"), 0, MAX_WAIT_S, "seconds")


def read_listing(query: Mapping[str, Sequence[str]]) -> Listing:
    """Which tasks a query string asks for; raises a `Problem`."""
    parameters = _parameters(query, ("state", "circuit", "page_size", "page_token"))
    state, circuit, token = (parameters.get(name) for name in ("state", "circuit", "page_token"))
    if state is not None and state not in STATES:
        raise wrong_field("state", f"is no state; known are {', '.join(STATES)}")
    if token is not None and _PAGING.fullmatch(token) is None:
        raise wrong_field("page_token", "is none of ours; send next_page_token as it came")
    size = parameters.get("page_size")
    return Listing(
        state=None if state is None else TaskState(state),
        circuit="" if circuit is None else _circuit(circuit),
        page_size=PAGE_SIZE if size is None else _whole("page_size", size, 1, MAX_PAGE_SIZE, "tasks"),
        page_token=token or "",
    )


def read_nothing(query: Mapping[str, Sequence[str]]) -> None:
    """Refuse any query parameter."""
    _parameters(query, ())


def _prepare(
    circuit: str, request: Mapping[str, object], prefix: str, max_retries: int | None, *, keyed: bool
) -> Prepared:
    drawn = None
    if _BLINDING in circuits.find(circuit).request and request.get(_BLINDING) is None:
        if keyed:
            # A blinding that follows from the request alone hides nothing, and a random one would make
            # every repetition another submission.
            cure = "draw a random number below the field's order, keep it, and send it with every repetition"
            raise wrong_field(f"{prefix}{_BLINDING}", f"must be given together with {HEADER}; {cure}")
        drawn = str(secrets.randbelow(ORDER))
        request = {**request, _BLINDING: drawn}
    try:
        prepared = circuits.prepare(circuit, request)
    except InputError as error:
        raise wrong_field(f"{prefix}{error.field}", error.message) from None
    return Prepared(circuit, prepared.inputs, prepared.public_inputs, max_retries, drawn)


def _circuit(value: object) -> str:
    if not isinstance(value, str) or value not in circuits.NAMES:
        raise wrong_field("circuit", _unknown_circuit(value))
    return value


def _unknown_circuit(value: object) -> str:
    known = ", ".join(circuits.NAMES)
    if not isinstance(value, str):
        return f"{'is missing' if value is None else 'must be a string'}; known are {known}"
    nearest = get_close_matches(value[:_SHOWN], circuits.NAMES, n=1, cutoff=0.5)
    return f"is unknown; did you mean {nearest[0]}?" if nearest else f"is unknown; known are {known}"


def _max_retries(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise wrong_field("max_retries", f"must be a whole number from 0 to {MAX_RETRIES}")
    return value


def _whole(name: str, text: str, low: int, high: int, unit: str) -> int:
    if _WHOLE.fullmatch(text) is None or not low <= int(text) <= high:
        raise wrong_field(name, f"must be a whole number of {unit} from {low} to {high}")
    return int(text)


def _parameters(query: Mapping[str, Sequence[str]], known: Collection[str]) -> dict[str, str]:
    _refuse_unknown(query, known)
    for name, values in query.items():
        if len(values) > 1:
            raise wrong_field(name, f"is there {len(values)} times; give it once")
    return {name: values[0] for name, values in query.items()}


def _refuse_unknown(members: Collection[str], known: Collection[str]) -> None:
    for name in members:
        if name not in known:
            shown = ascii(name)[1:-1][:_SHOWN]
            nearest = get_close_matches(shown, known, n=1)
            if nearest:
                raise wrong_field(shown, f"is unknown; did you mean {nearest[0]}?")
            raise wrong_field(shown, f"is unknown; known are: {', '.join(known) or 'none'}")
