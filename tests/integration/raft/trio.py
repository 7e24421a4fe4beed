"""Three `RaftRunner`s that can be stopped, wiped and started again, and what the tests ask of them."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from coordinator.raft import Address, NotLeader, OutcomeUnknown, RaftOptions, RaftRunner
from coordinator.raft.snapshots import Swap
from pki.ca.authority import Authority
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.unit.pki.forgery import HOSTS, authority

NAMES = ("coordinator-1", "coordinator-2", "coordinator-3")
NOW = datetime.now(UTC)  # peers verify against the real clock
HONEST = authority(NOW)
PATIENCE = 30.0
"""Seconds; only a hanging test waits for it."""
HEARTBEAT, ELECTION_TIMEOUT = 0.1, 1.0
"""Long, so that a busy machine brings no election that the test did not mean."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - conditions are about programs that tell nobody
            await asyncio.sleep(0.01)


class Words:
    """A state machine that collects what is said; `ballast` makes its snapshots large."""

    def __init__(self, ballast: int = 0) -> None:
        self.said: list[str] = []
        self._ballast = ballast

    def apply(self, entry: bytes, index: int) -> object:
        self.said.append(entry.decode())
        return index

    def capture(self) -> Iterator[bytes]:
        return iter(["\n".join(self.said).encode(), b"\0", bytes(self._ballast)])

    def load(self, state: bytes | memoryview, give_way: Callable[[], None]) -> Swap:
        words, _, _ = bytes(state).partition(b"\0")

        def swap() -> Iterator[None]:
            self.said = words.decode().split("\n")
            return iter(())

        return swap


class Member:
    """One node; its directory outlives its process."""

    def __init__(self, trio: "Trio", name: str) -> None:
        self._trio = trio
        self.name = name
        self.directory = trio.directory / name / "raft"
        issued = trio.authority.issue(name, Role.COORDINATOR, HOSTS, now=NOW)
        self.material = TlsMaterial.load(issued.write(trio.directory / "pki"))
        self.port = trio.ports[name]
        self.machine = Words()
        self.leading_terms: list[int] = []
        self.refused: list[str] = []
        self.runner: RaftRunner | None = None

    async def start(self) -> None:
        """A new process: empty memory, what the disk holds."""
        self.machine = Words(self._trio.ballast)
        peers = {peer: self._trio.routes.get((self.name, peer), port) for peer, port in self._trio.ports.items()}
        del peers[self.name]
        self.runner = RaftRunner(
            RaftOptions(
                self.name,
                tuple(peers),
                bootstrap=self.name == NAMES[0],
                heartbeat=HEARTBEAT,
                election_timeout=ELECTION_TIMEOUT,
                snapshot_entries=self._trio.snapshot_entries,
            ),
            directory=self.directory,
            bind=Address("127.0.0.1", self.port),
            peers={peer: Address("127.0.0.1", port) for peer, port in peers.items()},
            material=self.material,
            machine=self.machine,
            listener=self,
            on_refused=self.refused.append,
        )
        await self.runner.start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.stop()
            self.runner = None

    def wipe(self) -> None:
        """The disk was replaced."""
        shutil.rmtree(self.directory)

    def leading(self, term: int) -> None:
        self.leading_terms.append(term)

    def following(self) -> None:
        """The runner says so itself."""


class Trio:
    """The cluster. `routes`: ports through which one member dials another, instead of its own."""

    def __init__(self, directory: Path, *, snapshot_entries: int, ballast: int) -> None:
        self.directory = directory
        self.snapshot_entries = snapshot_entries
        self.ballast = ballast
        self.authority: Authority = HONEST
        self.ports = free_ports()
        self.routes: dict[tuple[str, str], int] = {}
        self.members = {name: Member(self, name) for name in NAMES}

    def leader(self) -> Member | None:
        leading = [
            (member.runner.leading_term, name)
            for name, member in self.members.items()
            if member.runner is not None and member.runner.leading_term is not None
        ]
        return self.members[max(leading)[1]] if leading else None

    async def elected(self) -> Member:
        """The leader, once there is one that everybody follows."""

        def known_to_all() -> bool:
            leader = self.leader()
            up = [member.runner for member in self.members.values() if member.runner is not None]
            return leader is not None and all(runner.leader_id == leader.name for runner in up)

        await until(known_to_all)
        leader = self.leader()
        assert leader is not None
        return leader

    def others(self, one: Member) -> list[Member]:
        return [member for member in self.members.values() if member is not one]

    async def say(self, *words: str) -> None:
        """Have each word accepted, whoever leads; a word whose outcome was unknown may be there twice."""
        async with asyncio.timeout(PATIENCE):
            for word in words:
                while not await self._try_to_say(word):  # noqa: ASYNC110 - the next leader is not known yet
                    await asyncio.sleep(0.02)

    async def _try_to_say(self, word: str) -> bool:
        leader = self.leader()
        if leader is None or leader.runner is None:
            return False
        with suppress(NotLeader, OutcomeUnknown):
            await leader.runner.propose(word.encode())
            return True
        return False

    async def agreed(self, *words: str) -> None:
        """Wait until every running member has exactly these words."""
        up = [member for member in self.members.values() if member.runner is not None]
        await until(lambda: all(member.machine.said == list(words) for member in up))


@asynccontextmanager
async def three_members(
    directory: Path, *, snapshot_entries: int = 1_000_000, ballast: int = 0, start: bool = True
) -> AsyncIterator[Trio]:
    """A cluster at work; everything is closed in the end, whatever happened."""
    trio = Trio(directory, snapshot_entries=snapshot_entries, ballast=ballast)
    try:
        if start:
            for member in trio.members.values():
                await member.start()
            await trio.elected()
        yield trio
    finally:
        for member in trio.members.values():
            await member.stop()
        # Aborted connections are closed by the loop in its next turns.
        await asyncio.sleep(0.05)


def free_ports() -> dict[str, int]:
    """A port for each member that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in NAMES]
    ports = {name: held.getsockname()[1] for name, held in zip(NAMES, sockets, strict=True)}
    for held in sockets:
        held.close()
    return ports
