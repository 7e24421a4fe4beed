"""The bytes of a journal segment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.storage.segment import (
    FORMAT_VERSION,
    HEADER_SIZE,
    MAX_PAYLOAD,
    RECORD_OVERHEAD,
    RecordKind,
    SegmentError,
    SegmentHeader,
    SegmentRecord,
    Tail,
    decode_header,
    encode_header,
    encode_record,
    read_records,
)
from tests.unit.raft import repeatable

CLUSTER = "0123456789abcdef" * 2
HEADER = encode_header(CLUSTER, "coordinator-1", 7)

records = st.builds(
    SegmentRecord, st.sampled_from(RecordKind), st.integers(0, 2**63), st.integers(0, 2**63), st.binary(max_size=40)
)


def encoded(record: SegmentRecord, synced: int = HEADER_SIZE) -> bytes:
    return encode_record(record.kind, record.index, record.term, record.payload, synced)


def test_a_header_comes_back_as_it_was() -> None:
    """Version, cluster, node and place in the row of segments."""
    assert decode_header(HEADER + b"rest") == SegmentHeader(FORMAT_VERSION, CLUSTER, "coordinator-1", 7)


@pytest.mark.parametrize("place", range(HEADER_SIZE))
def test_a_header_with_any_byte_changed_is_refused(place: int) -> None:
    """No byte of it is unprotected."""
    damaged = bytearray(HEADER)
    damaged[place] ^= 0x01
    with pytest.raises(SegmentError):
        decode_header(bytes(damaged))


def test_a_short_header_is_refused() -> None:
    """A file that ends within its header is no segment."""
    with pytest.raises(SegmentError, match="shorter"):
        decode_header(HEADER[:-1])


@repeatable
@given(written=st.lists(records, max_size=6))
def test_records_come_back_as_they_were(written: list[SegmentRecord]) -> None:
    """In order, up to the zeros that were reserved behind them."""
    body = b"".join(encoded(record) for record in written)
    *read, tail = read_records(HEADER + body + bytes(100))
    assert read == written
    assert tail == Tail(HEADER_SIZE + len(body), torn=False)


@repeatable
@given(rest=st.binary(max_size=300))
def test_random_bytes_are_a_torn_tail_or_refused(rest: bytes) -> None:
    """Reading never raises anything but SegmentError, and always ends with the tail."""
    *_, tail = read_records(HEADER + rest)
    assert isinstance(tail, Tail)
    assert tail.torn == any(rest[tail.offset - HEADER_SIZE :])


def test_a_damaged_record_before_acknowledged_ones_is_corruption() -> None:
    """The later record says that the damaged one was durable when it was written."""
    first = encoded(SegmentRecord(RecordKind.ENTRY, 1, 1, b"first"))
    second = encoded(SegmentRecord(RecordKind.ENTRY, 2, 1, b"second"), synced=HEADER_SIZE + len(first))
    damaged = bytearray(HEADER + first + second)
    damaged[HEADER_SIZE + RECORD_OVERHEAD] ^= 0xFF
    with pytest.raises(SegmentError, match=f"damaged at byte {HEADER_SIZE}"):
        list(read_records(bytes(damaged)))


def test_a_damaged_record_before_others_of_its_batch_is_a_torn_tail() -> None:
    """A disk may write the end of a batch before its beginning: none of it was acknowledged."""
    first, second = (encoded(SegmentRecord(RecordKind.ENTRY, number, 1, b"x")) for number in (1, 2))
    torn = bytearray(HEADER + first + second)
    torn[HEADER_SIZE + RECORD_OVERHEAD] ^= 0xFF
    assert list(read_records(bytes(torn))) == [Tail(HEADER_SIZE, torn=True)]


def test_a_length_beyond_the_bound_is_not_believed() -> None:
    """A damaged length is not followed into whatever lies there."""
    record = bytearray(encoded(SegmentRecord(RecordKind.ENTRY, 1, 1, b"x")))
    record[5:9] = (MAX_PAYLOAD + 1).to_bytes(4, "little")
    assert list(read_records(HEADER + bytes(record) + bytes(MAX_PAYLOAD))) == [Tail(HEADER_SIZE, torn=True)]


def test_a_kind_of_a_later_version_is_refused() -> None:
    """It is intact, so it may have been acknowledged: it is not cut off like a torn tail."""
    record = encoded(SegmentRecord(RecordKind.ENTRY, 1, 1, b"x"))
    strange = encode_record(9, 1, 1, b"x", HEADER_SIZE)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(SegmentError, match="kind 9"):
        list(read_records(HEADER + record + strange))
