"""Frames between the agent and its provers."""

import asyncio
import io

import pytest

from worker.frames import encode, read, receive

FRAME = {"circuit": "addition", "inputs": '{"a":"1"}', "public_inputs": ["5", "ü"]}


def test_a_prover_reads_what_the_agent_wrote() -> None:
    """Several frames are decoded as they were encoded; then the stream ends."""
    pipe = io.BytesIO(encode(FRAME) + encode({}))
    assert [read(pipe), read(pipe), read(pipe)] == [FRAME, {}, None]


@pytest.mark.parametrize("cut", [1, 3, 4, 10])
def test_a_frame_cut_short_is_the_end(cut: int) -> None:
    """A parent that died while writing is a parent that has gone."""
    assert read(io.BytesIO(encode(FRAME)[:cut])) is None


async def test_the_agent_reads_what_a_prover_wrote() -> None:
    """And notices when the prover died in the middle."""
    reader = asyncio.StreamReader()
    reader.feed_data(encode(FRAME) + encode(FRAME)[:-1])
    reader.feed_eof()
    assert await receive(reader) == FRAME
    with pytest.raises(asyncio.IncompleteReadError):
        await receive(reader)
