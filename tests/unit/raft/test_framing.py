"""Frames on the Raft links: the engine's messages and nothing else, whoever sends what."""

import struct
from contextlib import suppress

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.errors import FrameError
from coordinator.raft.transport.framing import LENGTH, MAX_FRAME, body_length, from_engine, pack, to_engine, unpack
from tests.unit.raft import repeatable
from zkp.protocol.v1 import raft_pb2 as pb

MESSAGES: list[dict[str, object]] = [
    {"type": "request_vote", "term": 7, "last_log_index": 12, "last_log_term": -1},
    {"type": "response_vote", "term": 7},
    {
        "type": "append_entries",
        "term": 7,
        "commit_index": 11,
        "prevLogIdx": 10,
        "prevLogTerm": 6,
        "entries": [(b"\x00one", 11, 6), (b"\x00two", 12, 7)],
    },
    {"type": "append_entries", "term": 7, "commit_index": 11, "prevLogIdx": 10, "prevLogTerm": 6, "entries": []},
    {"type": "append_entries", "term": 7, "commit_index": 11, "serialized": (b"part", False, True)},
    {"type": "next_node_idx", "next_node_idx": 13, "reset": False, "success": True},
    {"type": "timeout_now", "term": 7},
]
KINDS = [field.name for field in pb.Envelope.DESCRIPTOR.oneofs_by_name["message"].fields]


THE_ENGINES = {"request_vote", "vote", "append_entries", "install_snapshot", "next_index", "timeout_now"}
"""Kinds that the engine sees."""


def through_a_frame(envelope: pb.Envelope) -> pb.Envelope:
    frame = pack(envelope)
    assert body_length(frame[: LENGTH.size]) == len(frame) - LENGTH.size
    return unpack(frame[LENGTH.size :])


def take(body: bytes) -> None:
    """As a node does, down to the engine's message."""
    envelope = unpack(body)
    if envelope.WhichOneof("message") in THE_ENGINES:
        to_engine(envelope)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["type"])
def test_the_engines_messages_come_back_as_they_were(message: dict[str, object]) -> None:
    """Every one that may leave a node, through the bytes of a frame."""
    assert to_engine(through_a_frame(from_engine(message))) == message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_can_be_sent_empty(kind: str) -> None:
    """A message whose every value is zero is still that message."""
    envelope = pb.Envelope()
    part: Message = getattr(envelope, kind)
    part.SetInParent()
    assert through_a_frame(envelope).WhichOneof("message") == kind


@pytest.mark.parametrize(
    "kind", ["apply_command", "apply_command_response", "status", "add", "remove", "set_version", "transfer"]
)
def test_nothing_else_of_the_engine_leaves(kind: str) -> None:
    """Commands are never forwarded, and the engine's administrative messages do not exist here."""
    with pytest.raises(KeyError):
        from_engine({"type": kind})


def test_multi_part_entries_do_not_exist() -> None:
    """The engine's way of splitting large entries, which would be unpickled, has no place in a frame."""
    fields = {field.name for field in pb.AppendEntries.DESCRIPTOR.fields}
    assert "transmission" not in fields
    assert "transmission" not in to_engine(from_engine(MESSAGES[2]))


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 2**31, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_is_read(length: int) -> None:
    """Two gibibytes are never waited for."""
    with pytest.raises(FrameError, match=f"frame of {length} bytes"):
        body_length(struct.pack(">I", length))


@pytest.mark.parametrize("length", [1, MAX_FRAME])
def test_lengths_within_bounds_are_taken(length: int) -> None:
    """Both ends of what is allowed."""
    assert body_length(struct.pack(">I", length)) == length


@repeatable
@given(body=st.binary(max_size=300))
def test_random_bytes_are_a_frame_error(body: bytes) -> None:
    """From bytes to the engine's message nothing but FrameError is raised."""
    with suppress(FrameError):
        take(body)


@repeatable
@given(place=st.integers(0, 1_000), value=st.integers(0, 255), which=st.integers(0, len(MESSAGES) - 1))
def test_damaged_frames_are_a_frame_error_or_another_frame(place: int, value: int, which: int) -> None:
    """One byte changed in an honest frame: it decodes to something, or is refused."""
    body = bytearray(pack(from_engine(MESSAGES[which]))[LENGTH.size :])
    body[place % len(body)] = value
    with suppress(FrameError):
        take(bytes(body))


@pytest.mark.parametrize("body", [b"", pb.Envelope(cluster_id="c", term=3).SerializeToString()])
def test_an_envelope_without_a_message_is_refused(body: bytes) -> None:
    """So is one that holds a kind of a later version, which looks the same."""
    with pytest.raises(FrameError, match="no message"):
        unpack(body)


@pytest.mark.parametrize(
    "entries",
    [
        [(b"\x00a", 12, 1)],
        [(b"\x00a", 11, 1), (b"\x00b", 13, 1)],
        [(b"\x00b", 12, 1), (b"\x00a", 11, 1)],
        [(b"\x00a", 11, 1), (b"\x00a", 11, 1)],
        [(b"", 11, 1)],
    ],
    ids=["gap before", "gap", "backwards", "twice", "empty command"],
)
def test_entries_that_do_not_follow_one_another_are_refused(entries: list[tuple[bytes, int, int]]) -> None:
    """The journal would refuse them with an error that ends the process: a peer must not cause that."""
    message = pb.AppendEntries(
        prev_index=10, entries=[pb.Entry(command=command, index=index, term=term) for command, index, term in entries]
    )
    with pytest.raises(FrameError, match="do not follow one another"):
        to_engine(pb.Envelope(append_entries=message))
