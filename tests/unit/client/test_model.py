"""Conversion of messages to values."""

from datetime import UTC, datetime

import pytest

from zkp.client.errors import ServerFault
from zkp.client.model import Accepted, Submission, Task, TaskError, TaskState, state_number
from zkp.protocol.v1 import coordinator_pb2 as pb


def test_a_finished_task_is_read_whole() -> None:
    """Every field is converted; times have a time zone."""
    message = pb.Task(
        id="t-1",
        circuit="addition",
        state=pb.TASK_STATE_COMPLETED,
        attempt=2,
        retries=1,
        max_retries=3,
        worker_id="worker-1",
        public_inputs=["5"],
        proof=b"p" * 256,
        verifying_key_sha256="ab",
        error=pb.TaskError(code="timeout", message="slow"),
        revision=9,
    )
    message.created_at.FromMilliseconds(1_000)
    message.assigned_at.FromMilliseconds(2_000)
    message.started_at.FromMilliseconds(3_000)
    message.finished_at.FromMilliseconds(4_500)
    assert Task.read(message) == Task(
        id="t-1",
        circuit="addition",
        state=TaskState.COMPLETED,
        attempt=2,
        retries=1,
        max_retries=3,
        worker_id="worker-1",
        public_inputs=("5",),
        proof=b"p" * 256,
        verifying_key_sha256="ab",
        error=TaskError("timeout", "slow"),
        created_at=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        assigned_at=datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC),
        started_at=datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC),
        finished_at=datetime(1970, 1, 1, 0, 0, 4, 500_000, tzinfo=UTC),
        revision=9,
    )


def test_what_has_not_happened_is_none() -> None:
    """A new task has no worker, proof, key, error or later times."""
    task = Task.read(pb.Task(id="t-1", state=pb.TASK_STATE_PENDING))
    assert (task.worker_id, task.proof, task.verifying_key_sha256, task.error) == (None, None, None, None)
    assert (task.created_at, task.assigned_at, task.started_at, task.finished_at) == (None, None, None, None)


@pytest.mark.parametrize("state", TaskState)
def test_every_state_goes_there_and_back(state: TaskState) -> None:
    """The table of states covers every state in both directions."""
    assert Task.read(pb.Task(state=state_number(state))).state is state


def test_the_enumeration_has_no_state_beyond_ours() -> None:
    """A state that is added to the protocol must be added here."""
    assert len(pb.TaskState.values()) == len(TaskState) + 1


@pytest.mark.parametrize("number", [0, 99])
def test_an_unknown_state_is_a_fault(number: int) -> None:
    """An unknown state of a newer coordinator is rejected with a message."""
    with pytest.raises(ServerFault, match="upgrade the client"):
        Task.read(pb.Task(id="t-1", state=pb.TaskState.ValueType(number)))


def test_private_inputs_are_in_no_repr() -> None:
    """Logging a submission does not reveal its inputs."""
    assert "4711" not in repr(Submission("t-1", "addition", b'{"a":"4711"}', ("5",)))


def test_the_default_of_retries_is_left_to_the_coordinator() -> None:
    """None is sent as absent, 0 as 0."""
    submission = Submission("t-1", "addition", b"{}", ())
    assert not submission.message().HasField("max_retries")
    assert Submission("t-1", "addition", b"{}", (), max_retries=0).message().HasField("max_retries")


def test_an_acceptance_says_whether_it_was_one_before() -> None:
    """`duplicate` is converted with the task."""
    message = pb.SubmitTaskResponse(task=pb.Task(id="t-1", state=pb.TASK_STATE_PENDING), duplicate=True)
    accepted = Accepted.read(message)
    assert (accepted.task.id, accepted.duplicate) == ("t-1", True)
