"""What both clusters are asked to keep: 300 bytes a task, as bytes that differ in the task's id alone.

Ours gets a real submission, which it parses and checks; etcd gets a key (the id) and a value of the rest.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator

from google.protobuf.message import Message

from tests.bench.raft import etcd
from tests.bench.raft.coordinators import CIRCUIT
from zkp.proofs import circuits
from zkp.protocol.v1 import coordinator_pb2 as pb

SIZE = 300
"""Bytes of one submission; of one key and its value."""

BATCH = 100
"""Tasks of one batch: puts of one transaction of etcd, submissions of one request of ours."""

# A number in a range, hidden in a commitment: as long as needed for ids of some 30 characters.
_STATEMENT = {"value": str(10**14), "min": "0", "max": str(10**15), "blinding": str(10**76 + 7)}


def ids() -> Iterator[str]:
    """Task ids of one length that nobody had before."""
    run = secrets.token_hex(6)
    return (f"{run}-{number:0{_ID_LENGTH - len(run) - 1}d}" for number in itertools.count())


def prepared() -> circuits.Prepared:
    """What every submission asks for."""
    return _PREPARED


def submission(task_id: str) -> pb.Submission:
    """A task of ours, SIZE bytes long."""
    return pb.Submission(
        task_id=task_id, circuit=CIRCUIT, inputs=_PREPARED.inputs, public_inputs=_PREPARED.public_inputs
    )


def put(task_id: str) -> Message:
    """A put whose key and value are SIZE bytes together."""
    message: Message = etcd.messages.Put(key=task_id.encode(), value=b"v" * (SIZE - len(task_id)))
    return message


def submit_request(task_id: str) -> pb.SubmitTaskRequest:
    return pb.SubmitTaskRequest(submission=submission(task_id))


def batch_request(task_ids: Iterator[str]) -> bytes:
    """BATCH submissions of ours in one request."""
    return b"".join(_IN_BATCH(next(task_ids)) for _ in range(BATCH))


def transaction_request(task_ids: Iterator[str]) -> bytes:
    """BATCH puts in one transaction of etcd."""
    return b"".join(_IN_TRANSACTION(next(task_ids)) for _ in range(BATCH))


def quickly(make: Callable[[str], Message]) -> Callable[[str], bytes]:
    """The bytes of make(task_id), without the cost of making the message each time: the generator must be light."""
    sample = "#" * _ID_LENGTH
    before, after = make(sample).SerializeToString().split(sample.encode())
    return lambda task_id: before + task_id.encode() + after


def _id_length() -> int:
    """So long that a submission has SIZE bytes."""
    return (
        SIZE
        - pb.Submission(
            task_id="", circuit=CIRCUIT, inputs=_PREPARED.inputs, public_inputs=_PREPARED.public_inputs
        ).ByteSize()
        - len(b"\x0a\x00")
    )


_PREPARED = circuits.prepare(CIRCUIT, _STATEMENT)
_ID_LENGTH = _id_length()
_IN_BATCH = quickly(lambda task_id: pb.SubmitTasksRequest(submissions=[submission(task_id)]))
_IN_TRANSACTION = quickly(
    lambda task_id: etcd.messages.Transaction(success=[etcd.messages.Operation(put=put(task_id))])
)
