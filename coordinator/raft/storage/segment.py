"""The bytes of a journal segment: a header, then records, each with a checksum. Pure.

header  = magic(8) version(u16) cluster id(16) node id length(u8) node id(64) sequence(u64) crc32c(u32)
record  = magic(4) kind(u8) length(u32) synced(u64) index(u64) term(u64) crc32c(u32) payload(length)

All numbers are little-endian. `synced` is the segment offset up to which everything was known to be durable when
the record was written: this distinguishes a torn tail (bytes that were never acknowledged) from corruption.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

FORMAT_VERSION = 1
_SEGMENT_MAGIC = b"ZKPRAFT\x00"
_RECORD_MAGIC = b"\xf1REC"
_HEADER = struct.Struct("<8sH16sB64sQ")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<4sBIQQQ")
HEADER_SIZE = _HEADER.size + _CRC.size
RECORD_OVERHEAD = _RECORD.size + _CRC.size
MAX_PAYLOAD = 4 << 20


class RecordKind(IntEnum):
    """ENTRY: a log entry. TRUNCATE: entries from `index` on are void. RESET: everything before is void."""

    ENTRY = 1
    TRUNCATE = 2
    RESET = 3


_KINDS = frozenset(RecordKind)


class SegmentError(Exception):
    """The bytes are not what this version of the journal writes."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """First record of a segment: format, cluster, node and sequence number."""

    version: int
    cluster_id: str
    node_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """Decoded record of a segment."""

    kind: RecordKind
    index: int
    term: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """Where reading ended. `torn`: bytes after `offset` were written but never acknowledged."""

    offset: int
    torn: bool


def encode_header(cluster_id: str, node_id: str, sequence: int) -> bytes:
    """cluster_id: 32 hexadecimal digits; node_id: at most 64 bytes of UTF-8."""
    node = node_id.encode()
    header = _HEADER.pack(_SEGMENT_MAGIC, FORMAT_VERSION, bytes.fromhex(cluster_id), len(node), node, sequence)
    return header + _CRC.pack(google_crc32c.value(header))


def decode_header(data: bytes) -> SegmentHeader:
    """Raises SegmentError when the bytes are no segment header."""
    if len(data) < HEADER_SIZE:
        raise SegmentError("is shorter than its header")
    magic, version, cluster, node_length, node, sequence = _HEADER.unpack_from(data)
    if magic != _SEGMENT_MAGIC:
        raise SegmentError("is not a journal segment")
    if version != FORMAT_VERSION:
        raise SegmentError(f"has format version {version}; this program reads version {FORMAT_VERSION}")
    if _CRC.unpack_from(data, _HEADER.size)[0] != google_crc32c.value(data[: _HEADER.size]):
        raise SegmentError("has a damaged header")
    return SegmentHeader(version, cluster.hex(), node[:node_length].decode(), sequence)


def encode_record(kind: RecordKind, index: int, term: int, payload: bytes, synced: int) -> bytes:
    """Return the bytes of a record, with its CRC32C."""
    head = _RECORD.pack(_RECORD_MAGIC, kind, len(payload), synced, index, term)
    return b"".join((head, _CRC.pack(google_crc32c.extend(google_crc32c.value(head), payload)), payload))


def _decode_at(data: bytes, offset: int) -> tuple[SegmentRecord, int, int] | None:
    """(record, end offset, synced) at `offset`, or None when there is no whole, sound record. Raises SegmentError."""
    if offset + RECORD_OVERHEAD > len(data):
        return None
    magic, kind, length, synced, index, term = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_OVERHEAD
    if magic != _RECORD_MAGIC or length > MAX_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    head = data[offset : offset + _RECORD.size]
    if _CRC.unpack_from(data, offset + _RECORD.size)[0] != google_crc32c.extend(google_crc32c.value(head), payload):
        return None
    if kind not in _KINDS:
        # Intact, so it was written by a later version: to cut it off would lose what was acknowledged.
        raise SegmentError(f"holds a record of kind {kind} at byte {offset}, which is unknown to this release")
    return SegmentRecord(RecordKind(kind), index, term, payload), start + length, synced


def read_records(data: bytes) -> Iterator[SegmentRecord | Tail]:
    """Every record of a segment in order, then one Tail.

    Raises SegmentError when a damaged record lies before bytes that were acknowledged: that is corruption, and
    cutting it off would lose accepted entries. So would skipping a record of a later version.
    """
    offset = HEADER_SIZE
    while True:
        found = _decode_at(data, offset)
        if found is None:
            break
        record, offset, _ = found
        yield record
    candidate = data.find(_RECORD_MAGIC, offset)
    while candidate != -1:
        later = _decode_at(data, candidate)
        if later is not None and later[2] > offset:
            raise SegmentError(f"is damaged at byte {offset}, before entries that were acknowledged")
        candidate = data.find(_RECORD_MAGIC, candidate + 1)
    yield Tail(offset, torn=bool(data[offset:].strip(b"\x00")))
