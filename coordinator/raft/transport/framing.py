"""Frames on the Raft links: length-prefixed protobuf envelopes ↔ the engine's messages. Pure.

Only the messages listed here exist. A frame is bounded before it is read, and decoded only after its sender is known
from its certificate.
"""

import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from coordinator.raft.errors import FrameError
from zkp.protocol.v1 import raft_pb2 as pb

PROTOCOL_VERSION = 1
MAX_FRAME = 8 << 20
LENGTH = struct.Struct(">I")


def pack(envelope: pb.Envelope) -> bytes:
    """A frame: four bytes of length, then the envelope."""
    body = envelope.SerializeToString()
    return LENGTH.pack(len(body)) + body


def body_length(prefix: bytes) -> int:
    """Length of the body that follows. Raises FrameError when it is beyond MAX_FRAME."""
    (length,) = LENGTH.unpack(prefix)
    if not 0 < length <= MAX_FRAME:
        raise FrameError(f"frame of {length} bytes; at most {MAX_FRAME} are allowed")
    return int(length)


def unpack(body: bytes) -> pb.Envelope:
    """Raises FrameError for anything that is not exactly one message of ours."""
    try:
        envelope = pb.Envelope.FromString(body)
    except DecodeError as error:
        raise FrameError("frame is not an envelope") from error
    if envelope.WhichOneof("message") is None:
        raise FrameError("envelope holds no message")
    return envelope


def from_engine(message: dict[str, Any]) -> pb.Envelope:
    """The engine's message as an envelope; KeyError for types that must not leave this node."""
    return _ENCODERS[message["type"]](message)


def _append_entries(m: dict[str, Any]) -> pb.Envelope:
    if "serialized" in m:
        data, first, last = m["serialized"]
        return pb.Envelope(
            install_snapshot=pb.InstallSnapshot(
                term=m["term"], commit_index=m["commit_index"], data=data, first=first, last=last
            )
        )
    return pb.Envelope(
        append_entries=pb.AppendEntries(
            term=m["term"],
            commit_index=m["commit_index"],
            prev_index=m["prevLogIdx"],
            prev_term=m["prevLogTerm"],
            entries=[pb.Entry(command=command, index=index, term=term) for command, index, term in m["entries"]],
        )
    )


_ENCODERS: dict[str, Callable[[dict[str, Any]], pb.Envelope]] = {
    "request_vote": lambda m: pb.Envelope(
        request_vote=pb.RequestVote(
            term=m["term"], last_log_index=m["last_log_index"], last_log_term=m["last_log_term"]
        )
    ),
    "response_vote": lambda m: pb.Envelope(vote=pb.Vote(term=m["term"])),
    "append_entries": _append_entries,
    "next_node_idx": lambda m: pb.Envelope(
        next_index=pb.NextIndex(next_index=m["next_node_idx"], reset=m["reset"], success=m["success"])
    ),
    "timeout_now": lambda m: pb.Envelope(timeout_now=pb.TimeoutNow(term=m["term"])),
}


def to_engine(envelope: pb.Envelope) -> dict[str, Any]:
    """An envelope as the engine's message. Raises FrameError where entries do not follow one another."""
    kind = envelope.WhichOneof("message") or ""
    return _DECODERS[kind](getattr(envelope, kind))


def _entries(m: pb.AppendEntries) -> dict[str, Any]:
    entries = [(entry.command, entry.index, entry.term) for entry in m.entries]
    for offset, (command, index, _) in enumerate(entries, start=1):
        if index != m.prev_index + offset or not command:
            raise FrameError("entries do not follow one another")
    return {
        "type": "append_entries",
        "term": m.term,
        "commit_index": m.commit_index,
        "prevLogIdx": m.prev_index,
        "prevLogTerm": m.prev_term,
        "entries": entries,
    }


_DECODERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "request_vote": lambda m: {
        "type": "request_vote",
        "term": m.term,
        "last_log_index": m.last_log_index,
        "last_log_term": m.last_log_term,
    },
    "vote": lambda m: {"type": "response_vote", "term": m.term},
    "append_entries": _entries,
    "install_snapshot": lambda m: {
        "type": "append_entries",
        "term": m.term,
        "commit_index": m.commit_index,
        "serialized": (m.data, m.first, m.last),
    },
    "next_index": lambda m: {
        "type": "next_node_idx",
        "next_node_idx": m.next_index,
        "reset": m.reset,
        "success": m.success,
    },
    "timeout_now": lambda m: {"type": "timeout_now", "term": m.term},
}
