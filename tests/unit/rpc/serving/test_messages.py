"""Length-prefixed messages."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rpc.serving.messages import MessageError, MessageReader, Oversized, frame

LIMIT = 1000


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 2500), max_size=20))
def test_any_split_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    """Also empty messages, and several in one part."""
    data = b"".join(map(frame, messages))
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    reader = MessageReader(LIMIT)
    found: list[bytes | Oversized] = []
    for start, end in pairwise(bounds):
        found += reader.feed(data[start:end])
    assert found == messages
    assert reader.buffered == 0


def test_buffered_counts_what_is_incomplete() -> None:
    """Prefix included."""
    reader = MessageReader(LIMIT)
    assert reader.feed(frame(b"abc") + frame(bytes(100))[:50]) == [b"abc"]
    assert reader.buffered == 50
    assert reader.feed(frame(bytes(100))[50:]) == [bytes(100)]
    assert reader.buffered == 0


def test_small_parts_take_little_memory() -> None:
    """A peer that sends single bytes gets one buffer, and not an object for each."""
    data = frame(bytes(100_000))
    reader = MessageReader(1 << 20)
    tracemalloc.start()
    try:
        for byte in data[:-1]:
            assert reader.feed(bytes((byte,))) == []
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.buffered == len(data) - 1
    assert used < 3 * len(data)
    assert reader.feed(data[-1:]) == [bytes(100_000)]


@pytest.mark.parametrize("size", [LIMIT + 1, 2**32 - 1])
def test_a_message_above_the_limit_is_recognised_by_its_prefix(size: int) -> None:
    """Those before it are returned; what follows is dropped."""
    reader = MessageReader(LIMIT)
    prefix = b"\0" + size.to_bytes(4, "big")
    assert reader.feed(frame(b"first") + prefix) == [b"first", Oversized(size)]
    assert reader.feed(bytes(5000)) == []
    assert reader.buffered == 0
    assert MessageReader(LIMIT).feed(frame(bytes(LIMIT))) == [bytes(LIMIT)]


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_compressed_messages_are_refused(flag: int) -> None:
    """The flag is looked at when the prefix is complete."""
    with pytest.raises(MessageError, match="send it uncompressed") as caught:
        MessageReader(LIMIT).feed(bytes((flag,)) + frame(b"abc")[1:])
    assert caught.value.compressed
