"""The commands of the replicated state. Values only; `machine.State.apply` defines their effects."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Submit:
    """Accept a task. Sent again with the same content, it answers with the same task."""

    task_id: str
    submitter: str
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Lease a pending task to a worker with a free slot; makes the next attempt."""

    task_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """A worker has started an attempt."""

    task_id: str
    worker_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Complete:
    """Accept a proof. The proposer has verified it: the state machine cannot."""

    task_id: str
    worker_id: str
    attempt: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """The worker gives up on its attempt. `released` hands it back unharmed and costs no retry."""

    task_id: str
    worker_id: str
    attempt: int
    code: str
    message: str
    retryable: bool
    released: bool = False


@dataclass(frozen=True, slots=True)
class LoseLease:
    """Revoke an attempt: the worker missed its heartbeats, exceeded a time limit, or sent an invalid proof."""

    task_id: str
    attempt: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RegisterWorker:
    """Register a worker process; leases of this worker that are not in `held` are revoked."""

    worker_id: str
    incarnation: str
    capacity: int
    circuits: frozenset[str]
    held: tuple[tuple[str, int], ...]
    version: str
    certificate_serial: str = ""
    """Of the certificate that it registers with."""


@dataclass(frozen=True, slots=True)
class MarkOffline:
    """A worker has missed its heartbeats."""

    worker_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Revoke the worker's leases, and assign it no tasks until an operator releases it."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """End the quarantine of a worker."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class RegisterCircuit:
    """Pin a circuit to its verifying key."""

    name: str
    verifying_key_sha256: str


@dataclass(frozen=True, slots=True)
class Projected:
    """Acknowledge that the projection holds every event up to `revision`.

    Tasks whose final event is `forget_up_to` or an earlier one are evicted.
    """

    revision: int
    forget_up_to: int


@dataclass(frozen=True, slots=True)
class RevokeCertificate:
    """Revoke a certificate.

    serial: hexadecimal, lower case, without leading zeros; subject: whose it is, as ROLE/NAME, or empty;
    not_after_ms: when it expires anyway, and may be forgotten here; worker_id: the worker that has used it of late,
    if one has, which goes offline and loses its leases.
    """

    serial: str
    subject: str
    reason: str
    not_after_ms: int
    worker_id: str = ""


Command = (
    Submit
    | Cancel
    | Assign
    | Start
    | Complete
    | Fail
    | LoseLease
    | RegisterWorker
    | MarkOffline
    | Quarantine
    | Release
    | RegisterCircuit
    | Projected
    | RevokeCertificate
)


@dataclass(frozen=True, slots=True)
class Group:
    """One log entry: a batch of commands.

    now_ms and term are stamped by the leader that proposes it.
    """

    now_ms: int
    term: int
    commands: tuple[Command, ...]
