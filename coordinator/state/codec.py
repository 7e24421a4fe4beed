"""Encoding of log entries and snapshots as protobuf messages. Pure.

Every node must decode the same bytes to the same values. Malformed bytes are malformed on all nodes: they raise
`CodecError`, which the replica turns into a rejected command. Data of a later version has a meaning for other nodes
that this one does not know: it raises `LaterVersionError`, and the replica stops.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from coordinator.state import commands, model
from coordinator.state.invariants import InvariantError
from coordinator.state.machine import State
from zkp.protocol.v1 import replicated_pb2 as pb


class CodecError(ValueError):
    """The bytes are malformed."""


class LaterVersionError(CodecError):
    """The bytes are well-formed, with fields that this version does not know: upgrade this node."""


# ------------------------------------------------------------ log entries

_KIND_OF_COMMAND: dict[type, str] = {
    commands.Submit: "submit",
    commands.Cancel: "cancel",
    commands.Assign: "assign",
    commands.Start: "start",
    commands.Complete: "complete",
    commands.Fail: "fail",
    commands.LoseLease: "lose_lease",
    commands.RegisterWorker: "register_worker",
    commands.MarkOffline: "mark_offline",
    commands.Quarantine: "quarantine",
    commands.Release: "release",
    commands.RegisterCircuit: "register_circuit",
    commands.Projected: "projected",
    commands.RevokeCertificate: "revoke_certificate",
}


def _attempts_to_pb(attempts: tuple[tuple[str, int], ...]) -> list[pb.Attempt]:
    return [pb.Attempt(task_id=task_id, attempt=attempt) for task_id, attempt in attempts]


def encode_command(command: commands.Command) -> pb.Command:
    """Encode one command; command and message have the same field names."""
    values: dict[str, Any] = {name: getattr(command, name) for name in command.__slots__}
    if isinstance(command, commands.RegisterWorker):
        values["circuits"] = sorted(command.circuits)
        values["held"] = _attempts_to_pb(command.held)
    kinds: dict[str, Any] = {_KIND_OF_COMMAND[type(command)]: values}
    return pb.Command(**kinds)


_DECODERS: dict[str, Callable[[Any], commands.Command]] = {
    "submit": lambda m: commands.Submit(
        m.task_id, m.submitter, m.circuit, m.inputs, tuple(m.public_inputs), m.max_retries
    ),
    "cancel": lambda m: commands.Cancel(m.task_id),
    "assign": lambda m: commands.Assign(m.task_id, m.worker_id),
    "start": lambda m: commands.Start(m.task_id, m.worker_id, m.attempt),
    "complete": lambda m: commands.Complete(m.task_id, m.worker_id, m.attempt, m.proof),
    "fail": lambda m: commands.Fail(m.task_id, m.worker_id, m.attempt, m.code, m.message, m.retryable, m.released),
    "lose_lease": lambda m: commands.LoseLease(m.task_id, m.attempt, m.code, m.message),
    "register_worker": lambda m: commands.RegisterWorker(
        m.worker_id,
        m.incarnation,
        m.capacity,
        frozenset(m.circuits),
        tuple((held.task_id, held.attempt) for held in m.held),
        m.version,
        m.certificate_serial,
    ),
    "mark_offline": lambda m: commands.MarkOffline(m.worker_id, m.incarnation),
    "quarantine": lambda m: commands.Quarantine(m.worker_id, m.reason),
    "release": lambda m: commands.Release(m.worker_id),
    "register_circuit": lambda m: commands.RegisterCircuit(m.name, m.verifying_key_sha256),
    "projected": lambda m: commands.Projected(m.revision, m.forget_up_to),
    "revoke_certificate": lambda m: commands.RevokeCertificate(
        m.serial, m.subject, m.reason, m.not_after_ms, m.worker_id
    ),
}


def encode_group(now_ms: int, term: int, encoded: list[pb.Command]) -> bytes:
    """A log entry from commands that are encoded already (their sizes decided where the group ends)."""
    return pb.Group(now_ms=now_ms, term=term, commands=encoded).SerializeToString()


def decode_group(data: bytes) -> commands.Group:
    """A log entry's commands. Raises LaterVersionError, or CodecError when the bytes are no such thing."""
    try:
        message = pb.Group.FromString(data)
    except DecodeError as error:
        raise CodecError("log entry is not a group of commands") from error
    if _has_unknown_fields(message):
        raise LaterVersionError("was written by a later version of the coordinator")
    decoded = []
    for command in message.commands:
        kind = command.WhichOneof("kind")
        if kind is None:
            raise CodecError("log entry holds a command without a kind")
        decoded.append(_DECODERS[kind](getattr(command, kind)))
    return commands.Group(message.now_ms, message.term, tuple(decoded))


def _has_unknown_fields(message: Message) -> bool:
    """Whether there are fields in the message, or in any part of it, that this version does not know.

    They are dropped from it.
    """
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != size


# ------------------------------------------------------------ snapshots

_CHUNK_VALUES = 50
_PIECE_BYTES = 16 << 10
"""Decoded at once: a millisecond, some fifty tasks."""
_INDEX_CHUNK = _FREE_CHUNK = 1_000
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
"""The kinds of fields in the protobuf encoding, those of a fixed size with their bytes."""
_MAX_VARINT_BYTES = 10
Stored = TypeVar("Stored")
Slotted = model.Task | model.Attempt | model.Worker | model.CircuitState | model.Revocation


def _values(value: Slotted) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _task_to_pb(task: model.Task, inputs: bytes = b"") -> pb.Task:
    return pb.Task(**_values(task), inputs=inputs)


def _worker_to_pb(worker: model.Worker) -> pb.Worker:
    return pb.Worker(**(_values(worker) | {"circuits": sorted(worker.circuits)}))


def _task_from_pb(m: pb.Task) -> model.Task:
    values = {name: getattr(m, name) for name in model.Task.__slots__}
    return model.Task(**(values | {"public_inputs": tuple(m.public_inputs), "state": model.TaskState(m.state)}))


def _attempt_from_pb(m: pb.TaskAttempt) -> model.Attempt:
    values = {name: getattr(m, name) for name in model.Attempt.__slots__}
    return model.Attempt(**(values | {"state": model.AttemptState(m.state)}))


def _worker_from_pb(m: pb.Worker) -> model.Worker:
    values = {name: getattr(m, name) for name in model.Worker.__slots__}
    return model.Worker(**(values | {"circuits": frozenset(m.circuits), "state": model.WorkerState(m.state)}))


def _circuit_from_pb(m: pb.Circuit) -> model.CircuitState:
    return model.CircuitState(**{name: getattr(m, name) for name in model.CircuitState.__slots__})


def _revocation_from_pb(m: pb.Revocation) -> model.Revocation:
    return model.Revocation(**{name: getattr(m, name) for name in model.Revocation.__slots__})


def _event_to_pb(event: model.TaskEvent) -> pb.Event:
    return pb.Event(
        revision=event.revision,
        at_ms=event.at_ms,
        kind=event.kind,
        task=_task_to_pb(event.task) if event.task else None,
        attempt=pb.TaskAttempt(**_values(event.attempt)) if event.attempt else None,
        worker=_worker_to_pb(event.worker) if event.worker else None,
        circuit=pb.Circuit(**_values(event.circuit)) if event.circuit else None,
        revocation=pb.Revocation(**_values(event.revocation)) if event.revocation else None,
    )


def _event_from_pb(m: pb.Event) -> model.TaskEvent:
    return model.TaskEvent(
        revision=m.revision,
        at_ms=m.at_ms,
        kind=model.EventKind(m.kind),
        task=_task_from_pb(m.task) if m.HasField("task") else None,
        attempt=_attempt_from_pb(m.attempt) if m.HasField("attempt") else None,
        worker=_worker_from_pb(m.worker) if m.HasField("worker") else None,
        circuit=_circuit_from_pb(m.circuit) if m.HasField("circuit") else None,
        revocation=_revocation_from_pb(m.revocation) if m.HasField("revocation") else None,
    )


def capture_state(state: State) -> Iterator[bytes]:
    """Freeze the state now, encode it later, maybe in another thread: `decode_state` of all parts joined equals it.

    Copying the collections is enough, because what is in them never changes. A part takes less than a millisecond.
    """
    rest = pb.State(revision=state.revision, projected=state.projected, clock_ms=state.clock_ms)
    tasks, workers = list(state.tasks.values()), list(state.workers.values())
    inputs = state.inputs.copy()
    circuits, revoked = list(state.circuits.values()), list(state.revoked.values())
    outbox, queue = list(state.outbox), list(state.queue)

    def encode() -> Iterator[bytes]:
        # Messages that follow one another are one message, with all that their lists hold.
        for some in _chunks(tasks):
            yield pb.State(tasks=[_task_to_pb(task, inputs.get(task.id, b"")) for task in some]).SerializeToString()
        for events in _chunks(outbox):
            yield pb.State(outbox=map(_event_to_pb, events)).SerializeToString()
        rest.workers.extend(map(_worker_to_pb, workers))
        rest.circuits.extend(pb.Circuit(**_values(circuit)) for circuit in circuits)
        rest.queue.extend(queue)
        rest.revoked.extend(pb.Revocation(**_values(revocation)) for revocation in revoked)
        yield rest.SerializeToString()

    return encode()


def _chunks(values: list[Stored]) -> Iterator[list[Stored]]:
    """Small ones: every other thread may have to wait while a part is made."""
    return (values[begin : begin + _CHUNK_VALUES] for begin in range(0, len(values), _CHUNK_VALUES))


def decode_state(data: bytes | memoryview, give_way: Callable[[], None] = lambda: None) -> State:
    """Return a state that continues exactly as the encoded one would. Raises CodecError, also for a later version's.

    give_way: called after each millisecond or so of work, which may be in another thread.
    """
    state = State()
    try:
        for piece in _pieces(memoryview(data)):
            _add_piece(state, piece)
            give_way()
    except (ValueError, DecodeError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"snapshot does not decode: {error}") from error
    _rebuild_indexes(state, give_way)
    try:
        state.check()
    except InvariantError as error:
        raise CodecError(f"snapshot is inconsistent: {error}") from error
    return state


def _pieces(data: memoryview) -> Iterator[bytes]:
    """The encoded state, cut between its fields: each piece is a part of a message, and decodes by itself."""
    begin = end = 0
    while end < len(data):
        end = _end_of_field(data, end)
        if end - begin >= _PIECE_BYTES:
            yield bytes(data[begin:end])
            begin = end
    yield bytes(data[begin:end])


def _end_of_field(data: memoryview, position: int) -> int:
    """Where the field that begins at `position` ends. Raises CodecError."""
    tag, position = _varint(data, position)
    kind = tag & 7
    if kind == _LENGTH_DELIMITED:
        size, position = _varint(data, position)
    elif kind == _VARINT:
        size, position = 0, _varint(data, position)[1]
    elif kind in _FIXED_BYTES:
        size = _FIXED_BYTES[kind]
    else:
        raise CodecError("snapshot does not decode: it holds a field of an unknown kind")
    if position + size > len(data):
        raise CodecError("snapshot does not decode: it ends within a field")
    return position + size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of the protobuf encoding, and where it ends. Raises CodecError."""
    value = 0
    for shift, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position + shift + 1
    raise CodecError("snapshot does not decode: it holds a number without an end")


def _add_piece(state: State, piece: bytes) -> None:
    m = pb.State.FromString(piece)
    if _has_unknown_fields(m):
        raise LaterVersionError("it was written by a later version of the coordinator: upgrade this node")
    # The single values are in one of the pieces, and 0 in the others.
    state.revision, state.projected = m.revision or state.revision, m.projected or state.projected
    state.clock_ms = m.clock_ms or state.clock_ms
    for message in m.tasks:
        task = state.tasks[message.id] = _task_from_pb(message)
        if not task.state.final:
            state.inputs[task.id] = message.inputs
    state.workers.update((worker.id, _worker_from_pb(worker)) for worker in m.workers)
    state.circuits.update((circuit.name, _circuit_from_pb(circuit)) for circuit in m.circuits)
    state.outbox.extend(map(_event_from_pb, m.outbox))
    state.queue.update(dict.fromkeys(m.queue))
    state.revoked.update((revocation.serial, _revocation_from_pb(revocation)) for revocation in m.revoked)


def _rebuild_indexes(state: State, give_way: Callable[[], None]) -> None:
    """Leases, counts and the order of endings follow from the tasks: they are not stored."""
    ended: dict[int, str] = {}
    for number, task in enumerate(state.tasks.values()):
        state.count(task, 1)
        if task.state.leased:
            state.leases.setdefault(task.worker_id, set()).add(task.id)
        elif task.state.final:
            ended[task.revision] = task.id
        if not number % _INDEX_CHUNK:
            give_way()
    # A task's last revision is the one that ended it, so revisions give the order of endings.
    for number, revision in enumerate(sorted(ended)):
        state.finished[ended[revision]] = None
        if not number % _INDEX_CHUNK:
            give_way()


def free_state(state: State) -> Iterator[None]:
    """Empty an unused state in pieces, because freeing a large one at once blocks every thread."""
    for values in (state.tasks, state.inputs, state.queue, state.finished):
        while values:
            for _ in range(min(len(values), _FREE_CHUNK)):
                values.popitem()
            yield
    while state.outbox:
        for _ in range(min(len(state.outbox), _FREE_CHUNK)):
            state.outbox.pop()
        yield
