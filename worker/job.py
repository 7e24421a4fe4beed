"""What a worker works on: numbered attempts at tasks, what is to be proved, and what came of it."""

from dataclasses import dataclass, field
from typing import Self

from zkp.protocol.v1 import coordinator_pb2 as pb

_NO_LIMIT_S = 3600.0  # a coordinator always gives a limit; a missing one must not hold a slot for ever


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One numbered try at one task. Every report names it; a stale number is refused."""

    task_id: str
    attempt: int

    def __str__(self) -> str:
        return f"attempt {self.attempt} of task {self.task_id}"

    def message(self) -> pb.Attempt:
        """As the API takes it."""
        return pb.Attempt(task_id=self.task_id, attempt=self.attempt)


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt with everything that is needed to make its proof.

    `inputs` are private, and shown nowhere.
    """

    id: AttemptId
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    verifying_key_sha256: str
    time_limit: float  # seconds

    @classmethod
    def read(cls, message: pb.Assignment) -> Self:
        """From the coordinator's assignment."""
        return cls(
            id=AttemptId(message.task_id, message.attempt),
            circuit=message.circuit,
            inputs=message.inputs,
            public_inputs=tuple(message.public_inputs),
            verifying_key_sha256=message.verifying_key_sha256,
            time_limit=message.time_limit_ms / 1000 or _NO_LIMIT_S,
        )


@dataclass(frozen=True, slots=True)
class FinishedProof:
    """A verified proof that no coordinator has taken yet."""

    id: AttemptId
    proof: bytes = field(repr=False)
    proving_ms: int


class ProvingFailed(Exception):
    """One attempt gave no proof. `retryable`: another try, perhaps elsewhere, may."""

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
