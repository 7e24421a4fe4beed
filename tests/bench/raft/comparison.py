"""The core: etcd and ours in turn, round after round, each round with new data; medians of each round's ratios.

And in each round a server that does nothing, for what of it is the price of a call.
"""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop

from tests.bench.raft import load
from tests.bench.raft.clusters import Cluster, channel
from tests.bench.raft.identities import CLIENT
from tests.bench.raft.load import Load
from tests.bench.raft.results import Spread
from tests.bench.raft.workshop import LIKE_ETCD, Workshop, running

ETCD, OURS, EMPTY = "etcd", "coordinators", "empty"
Run = Callable[["Target", float], Awaitable[Load]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to load: the leader's address, and whom the generator's certificate lies with."""

    address: str
    identities: Path


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of one side. `name`: the same on both sides where they are compared."""

    name: str
    run: Run


def _loop(make: Callable[[grpc.aio.Channel], load.Request], outstanding: int) -> Run:
    async def run(target: Target, seconds: float) -> Load:
        async with channel(target.identities, target.address) as connection:
            return await load.closed_loop(make(connection), outstanding, seconds)

    return run


def _stream(outstanding: int) -> Run:
    async def run(target: Target, seconds: float) -> Load:
        async with channel(target.identities, target.address) as connection:
            return await load.one_stream(connection, outstanding, seconds)

    return run


def _client(outstanding: int) -> Run:
    return lambda target, seconds: load.one_client([target.address], target.identities / CLIENT, outstanding, seconds)


CELLS: dict[str, list[Cell]] = {
    ETCD: [
        *(Cell(f"unary {n}", _loop(load.put, n)) for n in (1, 16, 64, 256)),
        *(Cell(f"batch {n}", _loop(load.transaction, n)) for n in (1, 4, 16)),
    ],
    OURS: [
        *(Cell(f"unary {n}", _loop(load.submit, n)) for n in (1, 16, 64, 256)),
        *(Cell(f"stream {n}", _stream(n)) for n in (64, 256)),
        *(Cell(f"client {n}", _client(n)) for n in (64, 256)),
        *(Cell(f"batch {n}", _loop(load.submit_many, n)) for n in (1, 4, 16)),
    ],
    EMPTY: [
        *(Cell(f"unary {n}", _loop(load.submit, n)) for n in (1, 16, 64, 256)),
        *(Cell(f"stream {n}", _stream(n)) for n in (64, 256)),
        *(Cell(f"batch {n}", _loop(load.submit_many, n)) for n in (1, 4, 16)),
    ],
}
_UNARY = tuple(cell.name for cell in CELLS[ETCD] if cell.name.startswith("unary"))

Figures = dict[str, dict[str, float]]
"""Cell → {"rate": tasks per second, "p50", "p99": seconds per request, "leader_us", "all_us": CPU per task}."""


def measure(workshop: Workshop, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """`rounds` of both sides, `seconds` a cell after half a second of warming up."""
    found: list[dict[str, Figures]] = []
    for number in range(rounds):
        # Whoever comes second may profit or suffer from the first one: they take turns in that too.
        sides = (ETCD, OURS) if number % 2 == 0 else (OURS, ETCD)
        figures = {side: _side(workshop, side, seconds) for side in (*sides, EMPTY)}
        found.append(figures)
        say(f"round {number + 1} of {rounds}: {_sentence(figures)}")
    return {"rounds": rounds, "seconds": seconds, "figures": _figures(found), "ratios": _ratios(found)}


def _side(workshop: Workshop, side: str, seconds: float) -> Figures:
    makers: dict[str, Callable[[], Cluster]] = {
        ETCD: workshop.etcd,
        OURS: lambda: workshop.coordinators(LIKE_ETCD),
        EMPTY: workshop.empty,
    }
    with running(makers[side]) as cluster:
        leader = cluster.address(cluster.leader())
        return uvloop.run(_cells(cluster, Target(leader, workshop.identities), CELLS[side], seconds))


async def _cells(cluster: Cluster, target: Target, cells: list[Cell], seconds: float) -> Figures:
    figures: Figures = {}
    for cell in cells:
        before = _cpu_s(cluster)
        got = await cell.run(target, seconds)
        used = {name: after - before[name] for name, after in _cpu_s(cluster).items()}
        # The warm-up is in both numbers: its requests are as many per second as those that are counted.
        tasks = max(1.0, got.rate * (seconds + load.WARM_UP_S))
        figures[cell.name] = {
            "rate": got.rate,
            "p50": got.quantile(0.5),
            "p99": got.quantile(0.99),
            "leader_us": used[cluster.leader()] / tasks * 1e6,
            "all_us": sum(used.values()) / tasks * 1e6,
        }
    return figures


def _cpu_s(cluster: Cluster) -> dict[str, float]:
    """CPU seconds that each member's process has used; the generator's own under "generator"."""
    processes = {name: psutil.Process(member.pid) for name, member in cluster.members.items()}
    processes["generator"] = psutil.Process()
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def _figures(found: list[dict[str, Figures]]) -> dict[str, Any]:
    """Side → cell → the median over the rounds of each number."""
    return {
        side: {
            cell.name: {
                what: Spread.of([figures[side][cell.name][what] for figures in found]).median
                for what in ("rate", "p50", "p99", "leader_us", "all_us")
            }
            for cell in cells
        }
        for side, cells in CELLS.items()
    }


def _ratios(found: list[dict[str, Figures]]) -> dict[str, Any]:
    """What is compared → [median, lower quartile, upper quartile] of each round's own ratio."""
    ratios: dict[str, list[float]] = {}
    for figures, cell in itertools.product(found, CELLS[OURS]):
        theirs, ours = figures[ETCD], figures[OURS][cell.name]
        if cell.name in theirs:
            ratios.setdefault(cell.name, []).append(ours["rate"] / theirs[cell.name]["rate"])
            ratios.setdefault(f"{cell.name} latency", []).append(ours["p50"] / theirs[cell.name]["p50"])
        else:
            best = max(theirs[name]["rate"] for name in _UNARY)
            ratios.setdefault(cell.name, []).append(ours["rate"] / best)
    spreads = {name: Spread.of(values) for name, values in ratios.items()}
    return {name: [spread.median, spread.low, spread.high] for name, spread in spreads.items()}


def _sentence(figures: dict[str, Figures]) -> str:
    """Tasks a second of one round, ours over etcd's."""
    return ", ".join(
        f"{cell.name}: {figures[OURS][cell.name]['rate']:.0f}"
        + (f"/{figures[ETCD][cell.name]['rate']:.0f}" if cell.name in figures[ETCD] else "")
        for cell in CELLS[OURS]
    )
