"""What a submission must look like before it is proposed. Pure: nothing here knows the state."""

import re
from dataclasses import dataclass, field

from coordinator.errors import InvalidRequest
from coordinator.state.commands import Submit
from zkp.proofs import CircuitError, InputError, circuits
from zkp.protocol.limits import MAX_INPUT_BYTES, MAX_PUBLIC_INPUTS, MAX_RETRIES, TASK_ID_PATTERN, TASK_ID_RULE

_TASK_ID = re.compile(TASK_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as the caller sent it. `max_retries` None means the coordinator's default."""

    task_id: str
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None


def check_task_id(task_id: str) -> str:
    """Return the id if it is valid; raises InvalidRequest."""
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidRequest("task_id", TASK_ID_RULE)
    return task_id


def check(submission: Submission, submitter: str, default_max_retries: int) -> Submit:
    """Validate a submission and return its command. Takes well under 1 ms. Raises InvalidRequest with the field."""
    check_task_id(submission.task_id)
    retries = default_max_retries if submission.max_retries is None else submission.max_retries
    if not 0 <= retries <= MAX_RETRIES:
        raise InvalidRequest("max_retries", f"must be 0 to {MAX_RETRIES}")
    if len(submission.inputs) > MAX_INPUT_BYTES:
        raise InvalidRequest("inputs", f"has {len(submission.inputs)} bytes; at most {MAX_INPUT_BYTES} are taken")
    if len(submission.public_inputs) > MAX_PUBLIC_INPUTS:
        raise InvalidRequest("public_inputs", f"at most {MAX_PUBLIC_INPUTS} are taken")
    try:
        circuits.check(submission.circuit, submission.inputs, submission.public_inputs)
    except CircuitError as error:
        raise InvalidRequest("circuit", str(error)) from None
    except InputError as error:
        raise InvalidRequest(error.field, error.message) from None
    return Submit(
        task_id=submission.task_id,
        submitter=submitter,
        circuit=submission.circuit,
        inputs=submission.inputs,
        public_inputs=submission.public_inputs,
        max_retries=retries,
    )
