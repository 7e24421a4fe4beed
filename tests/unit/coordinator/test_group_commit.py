"""Adaptive batching, in virtual time.

One thread takes calls in, one at a time, and does the work that each entry costs, however much is in it.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordinator.raft import RaftStatus
from coordinator.replication.replicator import ReplicatedState, Replicator
from coordinator.state.commands import RegisterCircuit, Submit
from tests.unit.client.virtual_time import run

_INTAKE_S = 0.00015
_ENTRY_S = 0.00035
_AGREED_S = 0.0002
_JOURNEY_S = 0.0002  # from an answer to the client's next call


@dataclass
class SwiftLog:
    """A log that agrees on an entry while little more than one call is taken in."""

    thread: asyncio.Lock
    replica: ReplicatedState = field(default_factory=ReplicatedState)
    leading_term: int | None = 1
    leader_id: str | None = "coordinator-1"
    term: int = 1
    entries: int = 0

    async def propose(self, command: bytes) -> object:
        async with self.thread:
            await asyncio.sleep(_ENTRY_S)
        await asyncio.sleep(_AGREED_S)
        self.entries += 1
        return self.replica.apply(command, self.entries)

    async def transfer_leadership(self, to: str | None) -> str:
        raise NotImplementedError

    def status(self) -> RaftStatus:
        raise NotImplementedError


class Callers:
    """Clients that each send the next call when the last is answered."""

    def __init__(self, journey_s: float = _JOURNEY_S) -> None:
        self._journey_s = journey_s
        self._thread = asyncio.Lock()
        self.log = SwiftLog(self._thread)
        self.replicator = Replicator("coordinator-1", self.log.replica, self.log)
        self.latencies: list[float] = []

    async def load(self, callers: int, calls: int) -> float:
        """So many callers with so many calls each; mean commands of an entry."""
        await self.replicator.submit(RegisterCircuit("addition", "key"))
        return await self.crowd(callers, calls)

    async def crowd(self, callers: int, calls: int) -> float:
        """The same, in a network that has its circuit."""
        before = self.log.entries
        await asyncio.gather(*(self.call(f"{before}-{number}", calls) for number in range(callers)))
        return callers * calls / (self.log.entries - before)

    async def call(self, name: str, calls: int) -> None:
        """One caller, call after call."""
        clock = asyncio.get_running_loop().time
        for number in range(calls):
            await asyncio.sleep(self._journey_s)
            begin = clock()
            async with self._thread:
                await asyncio.sleep(_INTAKE_S)
            await self.replicator.submit(Submit(f"{name}-{number}", "client", "addition", b"{}", (), 3))
            self.latencies.append(clock() - begin)


def played(scenario: Coroutine[Any, Any, float]) -> float:
    return run(scenario)


@pytest.mark.parametrize(("callers", "at_least"), [(16, 14.0), (64, 50.0), (256, 100.0)])
def test_a_crowd_shares_entries(callers: int, at_least: float) -> None:
    """However fast an entry is agreed on: many callers fill it, though each call is taken in by itself."""

    async def scenario() -> float:
        return await Callers().load(callers, 3_200 // callers)

    assert played(scenario()) > at_least


def test_a_crowd_comes_back_as_one_however_long_it_is_away() -> None:
    """Callers who take longer for their next calls than anybody would wait for them still come together."""

    async def scenario() -> float:
        return await Callers(journey_s=0.02).load(64, 25)

    assert played(scenario()) > 35


def test_a_hiccup_is_no_reason_to_forget_a_crowd() -> None:
    """One group without most of its crowd, and the next ones are large again."""

    async def scenario() -> float:
        callers = Callers()
        await callers.load(64, 25)
        await callers.call("early", 1)
        return await callers.crowd(64, 5)

    assert played(scenario()) > 50


def test_a_crowd_is_served_faster_for_waiting() -> None:
    """Nobody in a crowd waits longer than for the others to be taken in, and a little."""

    async def scenario() -> float:
        callers = Callers()
        await callers.load(64, 40)
        return sorted(callers.latencies)[len(callers.latencies) // 2]

    assert played(scenario()) < 64 * _INTAKE_S + 2 * 0.004  # instead of 64 times the work of an entry, 32 ms


def test_who_asks_alone_hardly_ever_waits() -> None:
    """One caller with thousands of calls meets a trial in one of some hundred, and else none."""

    async def scenario() -> float:
        callers = Callers()
        await callers.load(1, 4_000)
        usual = _INTAKE_S + _ENTRY_S + _AGREED_S
        return sum(latency > 1.1 * usual for latency in callers.latencies) / len(callers.latencies)

    assert played(scenario()) < 0.005


def test_few_callers_do_not_wait_for_more() -> None:
    """Three are no crowd: each has its answer within two entries."""

    async def scenario() -> float:
        callers = Callers()
        await callers.load(3, 700)
        return sorted(callers.latencies)[int(0.98 * len(callers.latencies))]

    assert played(scenario()) < 2 * (3 * _INTAKE_S + _ENTRY_S + _AGREED_S)


def test_who_is_left_of_a_crowd_soon_waits_no_more() -> None:
    """When the other callers are gone, the last one lingers for two batches, and then for probes only."""

    async def scenario() -> float:
        callers = Callers()
        await callers.load(64, 25)
        callers.latencies.clear()
        await callers.call("last", 100)
        return sum(latency > 0.003 for latency in callers.latencies)

    assert played(scenario()) <= 2 + 2
