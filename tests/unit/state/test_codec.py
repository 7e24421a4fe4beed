"""Log entries and snapshots: what goes in comes out, and nothing but CodecError comes of broken bytes."""

import re
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.state.codec import (
    CodecError,
    LaterVersionError,
    capture_state,
    decode_group,
    decode_state,
    encode_command,
    encode_group,
    free_state,
)
from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Group,
    Projected,
    RegisterCircuit,
    RegisterWorker,
    RevokeCertificate,
    Submit,
)
from coordinator.state.machine import State
from tests.unit.state.histories import COMMANDS, bytes_of, repeatable
from zkp.protocol.v1 import replicated_pb2 as pb


def busy_state() -> State:
    """Something of everything."""
    state = State()
    for command in (
        RegisterCircuit("addition", "key"),
        RegisterWorker("w", "first", 2, frozenset({"range_proof", "addition"}), (), "1"),
        Submit("t1", "client", "addition", b"secret", ("1", "2"), 3),
        Submit("t2", "client", "addition", b"secret", (), 3),
        Submit("t3", "client", "addition", b"secret", (), 3),
        Assign("t1", "w"),
        Assign("t2", "w"),
        Complete("t2", "w", 1, b"proof"),
        RevokeCertificate("b0b", "client/bob", "superseded", 9_000),
        RevokeCertificate("a11ce", "client/alice", "", 9_000),
        Projected(2, 0),
    ):
        assert state.apply(command, 1_000, 7).refusal is None
    return state


def test_a_state_comes_back_whole_however_many_chunks_it_is_written_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list in its order, and nothing twice."""
    state = busy_state()
    whole = bytes_of(state)
    monkeypatch.setattr("coordinator.state.codec._CHUNK_VALUES", 1)
    assert bytes_of(decode_state(b"".join(capture_state(state)))) == bytes_of(state)
    monkeypatch.undo()
    assert bytes_of(decode_state(b"".join(capture_state(state)))) == whole


@repeatable
@given(now_ms=st.integers(0, 2**62), term=st.integers(0, 2**63), commands=st.lists(COMMANDS, max_size=5))
def test_a_group_comes_back_as_it_was(now_ms: int, term: int, commands: list[Command]) -> None:
    """Every command with every value, in order, with the leader's stamps."""
    data = encode_group(now_ms, term, [encode_command(command) for command in commands])
    assert decode_group(data) == Group(now_ms, term, tuple(commands))


def test_empty_values_do_not_make_a_command_disappear() -> None:
    """A command whose every value is empty is still that command."""
    group = decode_group(encode_group(0, 0, [encode_command(Projected(0, 0)), encode_command(Assign("", ""))]))
    assert group.commands == (Projected(0, 0), Assign("", ""))


def test_every_kind_of_command_has_its_message() -> None:
    """What the state machine can be asked and what the log can carry are the same list."""
    kinds = {re.sub("(?<!^)(?=[A-Z])", "_", command.__name__).lower() for command in get_args(Command)}
    assert kinds == {field.name for field in pb.Command.DESCRIPTOR.oneofs_by_name["kind"].fields}


@repeatable
@given(data=st.binary(max_size=200))
def test_random_bytes_are_an_error_of_the_codec(data: bytes) -> None:
    """Nothing but CodecError, neither for log entries nor for snapshots."""
    for decode in (decode_group, decode_state):
        with suppress(CodecError):
            decode(data)


@repeatable
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_damaged_snapshots_are_an_error_of_the_codec(place: int, value: int, cut: int) -> None:
    """One byte changed or the end cut off: decoded to something, or refused with CodecError."""
    data = bytearray(bytes_of(busy_state()))
    data[place % len(data)] = value
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        with suppress(CodecError):
            decode_state(damaged)


def test_a_command_without_a_kind_is_an_error() -> None:
    """An entry that holds one is refused whole, by every version alike."""
    known = pb.Group(commands=[encode_command(Assign("t", "w")), pb.Command()]).SerializeToString()
    with pytest.raises(CodecError, match="without a kind") as raised:
        decode_group(known)
    assert not isinstance(raised.value, LaterVersionError)


NEWS = b"\x9a\x06\x02hi"
"""Field 99 with a short text: no version uses it."""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(pb.Command.FromString(NEWS), id="another kind"),
        pytest.param(pb.Command(assign=pb.Assign.FromString(NEWS)), id="another field"),
    ],
)
def test_a_command_of_a_later_version_is_told_from_a_broken_one(command: pb.Command) -> None:
    """Others understand it: to refuse it here would be another history."""
    entry = pb.Group(commands=[encode_command(Assign("t", "w")), command]).SerializeToString()
    with pytest.raises(LaterVersionError, match="later version"):
        decode_group(entry)


def test_a_snapshot_of_a_later_version_does_not_load_half() -> None:
    """The cure is in the words."""
    state = pb.State(tasks=[pb.Task.FromString(NEWS)])
    with pytest.raises(LaterVersionError, match="upgrade this node"):
        decode_state(state.SerializeToString())


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("tasks", {"id": "t", "state": "lost in thought"}),
        ("workers", {"id": "w", "state": "asleep"}),
        ("outbox", {"revision": 1, "kind": "something happened"}),
    ],
)
def test_unknown_states_in_a_snapshot_are_refused(part: str, values: dict[str, object]) -> None:
    """A later version's snapshot does not load half."""
    message = pb.State()
    getattr(message, part).add(**values)
    with pytest.raises(CodecError):
        decode_state(message.SerializeToString())


def test_a_snapshot_is_of_the_moment_when_it_was_taken() -> None:
    """What happens after `capture_state` does not show in bytes that are made later, in another thread."""
    state = busy_state()
    expected = bytes_of(state)
    parts = capture_state(state)
    state.apply(Assign("t3", "w"), 2_000, 8)
    state.apply(Projected(8, 9_000), 2_000, 8)
    assert b"".join(parts) == expected
    assert bytes_of(state) != expected


def test_a_restored_state_equals_the_original() -> None:
    """Every public attribute, the derived ones included."""
    state = busy_state()
    restored = decode_state(bytes_of(state))
    for name in ("revision", "projected", "clock_ms", "tasks", "workers", "circuits", "revoked", "outbox", "counts"):
        assert getattr(restored, name) == getattr(state, name), name
    assert list(restored.queue) == list(state.queue) == ["t3"]
    assert list(restored.finished) == list(state.finished) == ["t2"]
    assert restored.leases == state.leases == {"w": {"t1"}}
    assert list(restored.revoked) == ["b0b", "a11ce"]


def many_tasks(count: int) -> State:
    state = State()
    state.apply(RegisterCircuit("addition", "ab" * 32), 1, 1)
    for number in range(count):
        state.apply(Submit(f"t{number}", "client", "addition", b"{}", ("3",), 3), 1, 1)
        state.apply(Cancel(f"t{number}") if number % 2 else Projected(0, 0), 1, 1)
    return state


def test_a_large_state_leaves_the_interpreter_to_others_while_it_is_decoded() -> None:
    """After at most a thousand tasks, whatever is done with them, and with each kind of value."""
    state = many_tasks(3_000)
    data = memoryview(b"".join(capture_state(state)))
    pauses: list[int] = []
    decoded = decode_state(data, lambda: pauses.append(1))
    assert len(pauses) > len(data) // (20 << 10) + 3_000 // 1_000
    assert bytes_of(decoded) == bytes_of(state)
    assert (decoded.finished, decoded.counts) == (state.finished, state.counts)


def test_an_old_state_is_freed_in_pieces() -> None:
    """Freeing it at once would keep every thread waiting; whatever is captured of it before is not touched."""
    state = many_tasks(3_000)
    expected = bytes_of(state)
    captured = capture_state(state)
    sizes = [len(state.tasks) for _ in free_state(state)]
    assert sizes[:3] == [2_000, 1_000, 0]
    assert not any((state.tasks, state.inputs, state.queue, state.finished, state.outbox))
    assert b"".join(captured) == expected
