"""The use cases of workers: register, send heartbeats, receive assignments.

A worker acts only under its own id. "Not registered" and "this attempt is not yours" make a worker start over or drop
a proof, so that they are returned only after a barrier: a leader that was deposed without noticing it must not return
them.
"""

import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from coordinator.errors import CoordinatorError, Forbidden, InvalidRequest, Overloaded, Unavailable
from coordinator.leader.assignment_streams import AssignmentStreams, Stream, check_registered
from coordinator.leader.leases import Leases
from coordinator.replication.replicator import Replicator
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.state.commands import RegisterWorker
from coordinator.state.model import Task, TaskState
from zkp.protocol.limits import MAX_CAPACITY, SHA256_PATTERN

log = logging.getLogger("zkp.coordinator")

Held = tuple[tuple[str, int], ...]
"""Attempts that a worker reports to hold: (task id, attempt)."""

MAX_HELD = 4096
MAX_CIRCUITS = 64
MAX_WORKERS = 4096
_HELD_BYTES = 40_000  # of one replicated command
_INCARNATION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"[ -~]{0,64}")


@dataclass(frozen=True, slots=True)
class WorkerRegistration:
    """The registration of a worker process. `circuits`: name → SHA-256 (hex) of its verifying key."""

    worker_id: str
    incarnation: str
    capacity: int
    circuits: Mapping[str, str]
    held: Held
    version: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt assigned to a worker, with the private inputs."""

    task: Task
    inputs: bytes = field(repr=False)


class Workers:
    """The leader's worker use cases. `caller` is the name in the certificate."""

    def __init__(
        self,
        replicator: Replicator,
        leases: Leases,
        streams: AssignmentStreams,
        keys: CircuitKeys,
        clock: Callable[[], float],
    ) -> None:
        self._replicator = replicator
        self._leases = leases
        self._streams = streams
        self._keys = keys
        self._clock = clock
        self._held: dict[str, frozenset[tuple[str, int]]] = {}
        self._serials: dict[str, str] = {}
        """Worker id → serial number of its last used certificate: it may renew without registering."""

    def end(self) -> None:
        """Discard the soft state, because this node lost leadership."""
        self._held.clear()
        self._serials.clear()

    def worker_using_certificate(self, certificate_serial: str) -> str:
        """Return the id of the worker that uses this certificate now; empty when none does."""
        known = self._replicator.state.workers
        current = ((self._serials.get(worker.id, worker.certificate_serial), worker.id) for worker in known.values())
        return next((worker_id for serial, worker_id in current if serial == certificate_serial), "")

    async def register(self, caller: str, registration: WorkerRegistration, certificate_serial: str) -> Held:
        """Register a worker process, and return the attempts in `held` that no longer belong to it.

        caller: the name in the certificate; certificate_serial: hexadecimal. Raises InvalidRequest, Forbidden
        (another's name, quarantined, a revoked certificate).
        """
        require_own_worker_id(caller, registration.worker_id)
        self._replicator.require_leader()
        _validate(registration)
        workers = self._replicator.state.workers
        if registration.worker_id not in workers and len(workers) >= MAX_WORKERS:
            raise Overloaded(f"{MAX_WORKERS} workers are known, which is the limit", 60.0)
        circuits = self._matching_circuits(registration)
        await self._replicator.barrier()
        claimed = set(registration.held)
        mine = claimed & self._leased_to(registration.worker_id)
        if sum(len(task_id) + 16 for task_id, _ in mine) > _HELD_BYTES:
            raise InvalidRequest("held", "too many attempts to register with: finish some first")
        outcome = await self._replicator.submit(
            RegisterWorker(
                registration.worker_id,
                registration.incarnation,
                registration.capacity,
                circuits,
                tuple(sorted(mine)),
                registration.version,
                certificate_serial,
            )
        )
        if outcome.refusal is not None:
            raise Forbidden(outcome.refusal.message)
        self._held[registration.worker_id] = frozenset(mine)
        self._serials[registration.worker_id] = certificate_serial
        return tuple(sorted((claimed - mine) | set(outcome.dropped)))

    async def heartbeat(
        self, caller: str, worker_id: str, incarnation: str, held: Held, certificate_serial: str
    ) -> Held:
        """Record a heartbeat, and return which of `held` the worker should drop. Raises NotFound: register again."""
        require_own_worker_id(caller, worker_id)
        self._replicator.require_leader()
        if len(held) > MAX_HELD:
            raise InvalidRequest("held", f"at most {MAX_HELD} attempts")
        await self._confirm_registered(worker_id, incarnation)
        claimed = frozenset(held)
        if claimed - self._leased_to(worker_id):
            await self._replicator.barrier()
        self._leases.heard(worker_id, self._clock())
        self._held[worker_id] = claimed
        self._serials[worker_id] = certificate_serial
        return tuple(sorted(claimed - self._leased_to(worker_id)))

    async def connect(self, caller: str, worker_id: str, incarnation: str, certificate_serial: str) -> Stream:
        """Open the worker's stream; an older one ends. The caller must call `disconnect`."""
        require_own_worker_id(caller, worker_id)
        self._replicator.require_leader()
        await self._confirm_registered(worker_id, incarnation)
        self._replicator.require_leader()  # leadership may have ended meanwhile, and nothing would end the stream
        worker = self._replicator.state.workers[worker_id]
        stream = self._streams.open(worker, incarnation, self._undelivered(worker_id))
        self._leases.heard(worker_id, self._clock())
        self._serials[worker_id] = certificate_serial
        log.info("worker connected", extra={"worker_id": worker_id})
        return stream

    async def assignments(self, stream: Stream) -> AsyncGenerator[Assignment, None]:
        """Yield assignments while this node leads; first those that may not have arrived.

        The same attempt can come twice, on an old and a new stream: a worker takes it once.
        """
        while True:
            task = await stream.next()
            state = self._replicator.state
            now = state.tasks.get(task.id)
            if now is not None and now.state.leased and now.attempt == task.attempt:
                yield Assignment(task, state.inputs[task.id])  # otherwise it was cancelled or revoked meanwhile

    def disconnect(self, stream: Stream) -> None:
        """Close the stream; the leases of its worker continue."""
        self._streams.close(stream)
        log.info("worker disconnected", extra={"worker_id": stream.worker_id})

    def _undelivered(self, worker_id: str) -> list[Task]:
        state = self._replicator.state
        known = self._held.get(worker_id, frozenset())
        tasks = [state.tasks[task_id] for task_id in sorted(state.leases.get(worker_id, ()))]
        return [task for task in tasks if task.state is TaskState.ASSIGNED and (task.id, task.attempt) not in known]

    def _leased_to(self, worker_id: str) -> frozenset[tuple[str, int]]:
        state = self._replicator.state
        return frozenset((task_id, state.tasks[task_id].attempt) for task_id in state.leases.get(worker_id, ()))

    async def _confirm_registered(self, worker_id: str, incarnation: str) -> None:
        try:
            check_registered(self._replicator.state.workers.get(worker_id), worker_id, incarnation)
        except CoordinatorError:
            await self._replicator.barrier()
            check_registered(self._replicator.state.workers.get(worker_id), worker_id, incarnation)

    def _matching_circuits(self, registration: WorkerRegistration) -> frozenset[str]:
        """Return the circuits of which the worker has the cluster's verifying key, and log the others."""
        matching = set()
        differing = []
        for name, key in registration.circuits.items():
            pin = self._keys.pin(name)
            if pin is None and name in self._keys.local:
                raise Unavailable("this leader has only just begun and is pinning its circuits: register again")
            if pin == key:
                matching.add(name)
            else:
                differing.append(f"{name} (it has {key[:16]}, the cluster {(pin or 'none')[:16]})")
        if differing:
            log.warning(
                "worker has other verifying keys than the cluster and gets no such tasks: %s",
                ", ".join(differing),
                extra={"worker_id": registration.worker_id},
            )
        if not matching:
            raise InvalidRequest(
                "circuits",
                f"none has the cluster's verifying key: {', '.join(differing)}; install the cluster's proving keys",
            )
        return frozenset(matching)


def require_own_worker_id(caller: str, worker_id: str) -> None:
    """Raise Forbidden unless the certificate's name is the worker's."""
    if caller != worker_id:
        refusal = Forbidden(f"worker_id: this certificate is {caller}'s, it may not speak for {worker_id[:64]!r}")
        log.warning("call refused: %s", refusal, extra={"worker_id": caller})
        raise refusal


def _validate(registration: WorkerRegistration) -> None:
    if not _INCARNATION.fullmatch(registration.incarnation):
        raise InvalidRequest("incarnation", "must be 1 to 64 characters from A-Z a-z 0-9 . _ -")
    if not 1 <= registration.capacity <= MAX_CAPACITY:
        raise InvalidRequest("capacity", f"must be 1 to {MAX_CAPACITY}")
    if not 1 <= len(registration.circuits) <= MAX_CIRCUITS:
        raise InvalidRequest("circuits", f"must be 1 to {MAX_CIRCUITS}")
    if any(len(name) > 64 or not name.isprintable() for name in registration.circuits):
        raise InvalidRequest("circuits", "names have at most 64 printable characters")
    if any(not re.fullmatch(SHA256_PATTERN, key) for key in registration.circuits.values()):
        raise InvalidRequest("circuits", "verifying_key_sha256 is 64 hexadecimal digits, lower case")
    if len(registration.held) > MAX_HELD:
        raise InvalidRequest("held", f"at most {MAX_HELD} attempts")
    if not _VERSION.fullmatch(registration.version):
        raise InvalidRequest("version", "at most 64 printable ASCII characters")
