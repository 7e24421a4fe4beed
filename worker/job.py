"""Attempts, jobs and their outcomes."""

from dataclasses import dataclass, field
from typing import Self

from zkp.protocol.v1 import coordinator_pb2 as pb

_DEFAULT_TIME_LIMIT_S = 3600.0  # if the coordinator sets none: a job must not occupy a slot indefinitely


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One numbered attempt at a task. Every report names it; the leader refuses a stale number."""

    task_id: str
    attempt: int

    def __str__(self) -> str:
        return f"attempt {self.attempt} of task {self.task_id}"

    def to_message(self) -> pb.Attempt:
        """Return the protocol message."""
        return pb.Attempt(task_id=self.task_id, attempt=self.attempt)


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt with everything needed for its proof.

    `inputs` are private and never shown.
    """

    id: AttemptId
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    verifying_key_sha256: str
    time_limit: float  # seconds

    @classmethod
    def from_message(cls, message: pb.Assignment) -> Self:
        """Return the job of a coordinator's assignment."""
        return cls(
            id=AttemptId(message.task_id, message.attempt),
            circuit=message.circuit,
            inputs=message.inputs,
            public_inputs=tuple(message.public_inputs),
            verifying_key_sha256=message.verifying_key_sha256,
            time_limit=message.time_limit_ms / 1000 or _DEFAULT_TIME_LIMIT_S,
        )


@dataclass(frozen=True, slots=True)
class FinishedProof:
    """A verified proof, not yet acknowledged by a coordinator."""

    id: AttemptId
    proof: bytes = field(repr=False)
    proving_ms: int


class ProvingFailed(Exception):
    """An attempt failed. `retryable`: another attempt, possibly on another worker, may succeed."""

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
