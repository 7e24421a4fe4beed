"""Assignments as values."""

from worker.job import AttemptId, Job
from zkp.protocol.v1 import coordinator_pb2 as pb


def test_an_assignment_becomes_a_job() -> None:
    """Every field arrives, the time limit in seconds."""
    message = pb.Assignment(
        task_id="t-1",
        attempt=2,
        circuit="addition",
        inputs=b"{}",
        public_inputs=["5"],
        verifying_key_sha256="ab",
        time_limit_ms=1500,
    )
    assert Job.from_message(message) == Job(AttemptId("t-1", 2), "addition", b"{}", ("5",), "ab", 1.5)


def test_a_missing_limit_is_an_hour() -> None:
    """A job must not occupy a slot indefinitely."""
    assert Job.from_message(pb.Assignment()).time_limit == 3600


def test_private_inputs_are_in_no_repr() -> None:
    """A job can appear in a traceback without disclosing a secret."""
    assert "4711" not in repr(Job.from_message(pb.Assignment(inputs=b'{"a":"4711"}')))
