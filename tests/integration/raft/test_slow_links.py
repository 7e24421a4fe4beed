"""A member behind a slow line is caught up by a snapshot, and nobody else notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.integration.raft.trio import PATIENCE, Member, Trio, three_members, until

SNAPSHOT = 8 << 20
PIECE, PAUSE = 64 << 10, 0.01
"""The line carries a piece, then pauses: some six megabytes a second at best."""


@asynccontextmanager
async def slow_line(port: int) -> AsyncIterator[int]:
    """A port that leads to another, slowly."""
    open_lines: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(PAUSE)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_lines.add(task)
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
            finally:
                far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=PIECE)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_lines:
            task.cancel()
        await asyncio.gather(*open_lines, return_exceptions=True)


async def with_short_logs(trio: Trio, *members: Member) -> None:
    """Their logs begin at a snapshot, so that a member without a disk needs it."""
    await until(lambda: all(member.runner and member.runner.status().snapshot_index for member in members))
    for member in members:
        await member.stop()
        await member.start()
        await trio.elected()


async def test_a_slow_member_is_caught_up_while_the_others_go_on(tmp_path: Path) -> None:
    """The leader keeps leading in its term and accepts words all the while; what waits for the line stays bounded."""
    async with three_members(tmp_path, snapshot_entries=20, ballast=SNAPSHOT) as trio:
        *fast, slow = trio.members.values()
        words = [f"word {number}" for number in range(25)]
        await trio.say(*words)
        await with_short_logs(trio, *fast)
        await slow.stop()
        slow.wipe()
        async with slow_line(slow.port) as port:
            for member in fast:
                trio.routes[member.name, slow.name] = port
                await member.stop()
                await member.start()
                await trio.elected()
            leader = await trio.elected()
            assert leader.runner is not None
            term, backlog = leader.runner.term, 0
            await slow.start()
            async with asyncio.timeout(PATIENCE):
                while not (slow.runner and slow.runner.status().membership.startswith("member")):
                    words.append(f"word {len(words)}")
                    await trio.say(words[-1])
                    backlog = max(backlog, leader.runner._links.backlog(slow.name))
                    await asyncio.sleep(0.05)
            await trio.agreed(*words)
            assert (trio.leader(), leader.runner.term) == (leader, term)
            assert slow.runner.status().snapshot_index > 0
            assert backlog < SNAPSHOT / 2
