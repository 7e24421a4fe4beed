"""From the moment a leader is gone to the next accepted submission, as a client sees it that asks all the others.

Two ways to go: the process is killed, which closes its connections; or it stands still, which closes nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop

from tests.bench.raft import etcd, load, payload
from tests.bench.raft.clusters import Cluster, channel
from tests.bench.raft.processes import PATIENCE_S, BenchError, NodeProcess
from tests.bench.raft.results import Spread
from tests.bench.raft.workshop import Workshop, running

_EVERY_S = 0.005
_CALL_S = 1.0
_QUIET_S = 0.5  # between two rounds: everybody is back, and nobody in the middle of an election

Gone = Callable[[NodeProcess], None]
Say = Callable[[str], None]


def measure(workshop: Workshop, times: int, say: Say) -> dict[str, Any]:
    """`times` of each way, for etcd with its own timers and with ours, and for ours with ours."""
    sides: dict[str, tuple[Callable[[], Cluster], str, Callable[[str], Any]]] = {
        "etcd": (workshop.etcd, etcd.PUT, payload.put),
        "etcd, 50 / 250 ms": (lambda: workshop.etcd(250), etcd.PUT, payload.put),
        "coordinators": (workshop.coordinators, load.SUBMIT, payload.submit_request),
    }
    results: dict[str, Any] = {}
    for name, (make, method, message) in sides.items():
        with running(make) as cluster:
            prober = _Prober(cluster, workshop.identities, method, payload.quickly(message))
            results[name] = {way: [prober.once(way) for _ in range(times)] for way in ("killed", "frozen")}
        for way, seconds in results[name].items():
            say(f"{name}, leader {way}: {Spread.of(seconds).median * 1000:.0f} ms at the median of {times}")
    return {"times": times, "seconds": results}


class _Prober:
    """Takes leaders away, and asks the others until one of them accepts."""

    def __init__(self, cluster: Cluster, identities: Path, method: str, make: Callable[[str], bytes]) -> None:
        self._cluster = cluster
        self._identities = identities
        self._method = method
        self._make = make
        self._task_ids = payload.ids()

    def once(self, way: str) -> float:
        """Seconds without service; afterwards all members are there again."""
        name = self._cluster.leader()
        leader = self._cluster.members[name]
        others = [self._cluster.address(other) for other in self._cluster.members if other != name]
        seconds = uvloop.run(self._outage(leader.kill if way == "killed" else leader.freeze, others))
        if way == "killed":
            leader.start()
        else:
            leader.thaw()
        self._cluster.wait_for(name)
        time.sleep(_QUIET_S)
        return seconds

    async def _outage(self, take_away: Callable[[], None], addresses: list[str]) -> float:
        async with contextlib.AsyncExitStack() as stack:
            calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = []
            for address in addresses:
                connection = await stack.enter_async_context(channel(self._identities, address))
                await connection.channel_ready()
                calls.append(connection.unary_unary(self._method))
            accepted = asyncio.Event()
            take_away()
            begin = time.perf_counter()
            running_calls: set[asyncio.Task[None]] = set()
            while not accepted.is_set():
                if time.perf_counter() - begin > PATIENCE_S:
                    raise BenchError(f"nobody accepts anything after {PATIENCE_S:g} s")
                for call in calls:
                    task = asyncio.create_task(self._ask(call, accepted))
                    running_calls.add(task)
                    task.add_done_callback(running_calls.discard)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(accepted.wait(), _EVERY_S)
            seconds = time.perf_counter() - begin
            for task in list(running_calls):
                task.cancel()
            await asyncio.gather(*running_calls, return_exceptions=True)
            return seconds

    async def _ask(self, call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], accepted: asyncio.Event) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call(self._make(next(self._task_ids)), timeout=_CALL_S)
            accepted.set()
