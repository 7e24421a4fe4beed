"""The coordinator's values ↔ the messages of its gRPC API. Private inputs go into `Assignment` and nowhere else."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.errors import CoordinatorError, InvalidRequest
from coordinator.rpc.errors import status_of
from coordinator.services.revocations import Certificate
from coordinator.services.tasks import AcceptedTask, TaskListing
from coordinator.services.validation import Submission
from coordinator.services.workers import Assignment, Held, WorkerRegistration
from coordinator.state.model import Revocation, Task, TaskState
from zkp.protocol.v1 import coordinator_pb2 as pb

_STATES: dict[TaskState, pb.TaskState.ValueType] = {
    TaskState.PENDING: pb.TASK_STATE_PENDING,
    TaskState.ASSIGNED: pb.TASK_STATE_ASSIGNED,
    TaskState.IN_PROGRESS: pb.TASK_STATE_IN_PROGRESS,
    TaskState.COMPLETED: pb.TASK_STATE_COMPLETED,
    TaskState.FAILED: pb.TASK_STATE_FAILED,
    TaskState.CANCELLED: pb.TASK_STATE_CANCELLED,
}
_STATES_BACK: dict[pb.TaskState.ValueType, TaskState] = {number: state for state, number in _STATES.items()}


def timestamp(milliseconds: int) -> Timestamp | None:
    """Milliseconds since the epoch; 0, "not yet", is no timestamp at all."""
    if not milliseconds:
        return None
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def task_to_pb(task: Task) -> pb.Task:
    """A task as clients see it."""
    message = pb.Task()
    _write_task(task, message)
    return message


def _write_task(task: Task, to: pb.Task) -> None:
    """In place: what is made by itself is copied into the message around it, and there may be a thousand."""
    to.id = task.id
    to.circuit = task.circuit
    to.state = _STATES[task.state]
    to.attempt = task.attempt
    to.retries = task.retries
    to.max_retries = task.max_retries
    to.worker_id = task.worker_id
    to.public_inputs.extend(task.public_inputs)
    to.proof = task.proof
    to.verifying_key_sha256 = task.verifying_key_sha256
    to.revision = task.revision
    if task.error_code:
        to.error.code, to.error.message = task.error_code, task.error_message
    for milliseconds, stamp in (
        (task.created_ms, "created_at"),
        (task.assigned_ms, "assigned_at"),
        (task.started_ms, "started_at"),
        (task.finished_ms, "finished_at"),
    ):
        if milliseconds:
            getattr(to, stamp).CopyFrom(timestamp(milliseconds))


def submission_from_pb(message: pb.Submission) -> Submission:
    """What a caller sends, unchecked."""
    return Submission(
        task_id=message.task_id,
        circuit=message.circuit,
        inputs=message.inputs,
        public_inputs=tuple(message.public_inputs),
        max_retries=message.max_retries if message.HasField("max_retries") else None,
    )


def accepted_to_pb(accepted: AcceptedTask) -> pb.SubmitTaskResponse:
    """Return the message of an accepted task."""
    message = pb.SubmitTaskResponse(duplicate=accepted.duplicate)
    _write_task(accepted.task, message.task)
    return message


def result_to_pb(result: AcceptedTask | CoordinatorError) -> pb.SubmitResult:
    """One of many submissions: accepted, or refused by itself."""
    message = pb.SubmitResult()
    _write_result(result, message)
    return message


def results_to_pb(results: Iterable[AcceptedTask | CoordinatorError]) -> pb.SubmitTasksResponse:
    """What became of each, in order."""
    message = pb.SubmitTasksResponse()
    for result in results:
        _write_result(result, message.results.add())
    return message


def _write_result(result: AcceptedTask | CoordinatorError, to: pb.SubmitResult) -> None:
    if isinstance(result, AcceptedTask):
        to.accepted.duplicate = result.duplicate
        _write_task(result.task, to.accepted.task)
        return
    status = status_of(result, lambda: None)
    to.refused.status, to.refused.message = status.code.name, status.details
    if isinstance(result, InvalidRequest):
        to.refused.field = result.field


def listing_to_pb(listing: TaskListing) -> pb.ListTasksResponse:
    """Return the message of a page of tasks."""
    return pb.ListTasksResponse(
        tasks=[task_to_pb(task) for task in listing.tasks], next_page_token=listing.next_token
    )


def state_from_pb(number: pb.TaskState.ValueType) -> TaskState | None:
    """None stands for every state; raises InvalidRequest for a number that means nothing here."""
    if number == pb.TASK_STATE_UNSPECIFIED:
        return None
    if number not in _STATES_BACK:
        raise InvalidRequest("state", f"{number} is not a task state")
    return _STATES_BACK[number]


def held_from_pb(attempts: Iterable[pb.Attempt]) -> Held:
    """Attempts as they were named, each once."""
    return tuple(dict.fromkeys((attempt.task_id, attempt.attempt) for attempt in attempts))


def held_to_pb(held: Held) -> list[pb.Attempt]:
    """Return the messages of attempts."""
    return [pb.Attempt(task_id=task_id, attempt=attempt) for task_id, attempt in held]


def registration_from_pb(message: pb.RegisterWorkerRequest) -> WorkerRegistration:
    """How a worker introduces itself, unchecked."""
    return WorkerRegistration(
        worker_id=message.worker_id,
        incarnation=message.incarnation,
        capacity=message.capacity,
        circuits={key.circuit: key.verifying_key_sha256 for key in message.circuits},
        held=held_from_pb(message.held),
        version=message.version,
    )


def assignment_to_pb(assignment: Assignment, time_limit_ms: int) -> pb.Assignment:
    """What a worker is given to prove, private inputs included."""
    task = assignment.task
    return pb.Assignment(
        task_id=task.id,
        attempt=task.attempt,
        circuit=task.circuit,
        inputs=assignment.inputs,
        public_inputs=task.public_inputs,
        verifying_key_sha256=task.verifying_key_sha256,
        time_limit_ms=time_limit_ms,
    )


def certificate_from_pb(message: pb.Certificate) -> Certificate:
    """A certificate that is to be revoked, unchecked."""
    return Certificate(
        serial=message.serial,
        subject=message.subject,
        reason=message.reason,
        not_after_ms=message.not_after.ToMilliseconds() if message.HasField("not_after") else 0,
    )


def revocation_to_pb(revocation: Revocation) -> pb.Revocation:
    """Return the message of a revocation."""
    return pb.Revocation(
        serial=revocation.serial,
        subject=revocation.subject,
        reason=revocation.reason,
        revoked_at=timestamp(revocation.revoked_ms),
        not_after=timestamp(revocation.not_after_ms),
        revision=revocation.revision,
    )
