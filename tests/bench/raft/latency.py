"""One submission at a time: where its time goes, beside what the disk and the loopback interface need at least."""

import contextlib
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.raft import load, payload
from tests.bench.raft.clusters import channel
from tests.bench.raft.coordinators import CoordinatorCluster
from tests.bench.raft.workshop import Workshop, running

_TRIES = 2_000
_RESERVED = 4 << 20


def measure(workshop: Workshop, seconds: float) -> dict[str, Any]:
    """Medians in seconds: the parts, the whole as the client sees it, and the two limits."""
    written = workshop.directory / "times"
    written.mkdir()

    def make() -> CoordinatorCluster:
        cluster = workshop.coordinators()
        cluster.probe(written)
        return cluster

    with running(make) as cluster:
        leader = cluster.leader()
        whole = uvloop.run(_alone(workshop.identities, cluster.address(leader), seconds))
        for member in cluster.members.values():
            member.stop()
    times = {name: json.loads((written / name).read_text()) for name in cluster.members}
    return {
        "whole": whole.quantile(0.5),
        "parts": _parts(times, leader, whole.quantile(0.5)),
        "fdatasync": fdatasync_seconds(workshop.directory),
        "round_trip": round_trip_seconds(),
    }


async def _alone(identities: Path, address: str, seconds: float) -> load.Load:
    async with channel(identities, address) as connection:
        return await load.closed_loop(load.submit(connection), 1, seconds)


def _parts(times: dict[str, dict[str, list[float]]], leader: str, whole: float) -> list[tuple[str, float]]:
    """One request at a time, so that the last marks of each kind belong together."""
    own = times.pop(leader)
    count = min(map(len, own.values())) // 2
    asked, proposed, applying, applied, answered = (
        own[name][-count:] for name in ("asked", "proposed", "applying", "applied", "answered")
    )
    followers = statistics.median([value for each in times.values() for value in each["sync_seconds"]])
    agreed = _median_gap(proposed, applying)
    return [
        ("gRPC: client, network and server", whole - _median_gap(asked, answered)),
        ("check and queue", _median_gap(asked, proposed)),
        ("followers' fdatasync (the leader's own runs meanwhile)", followers),
        ("Raft frames and network", agreed - followers),
        ("apply", _median_gap(applying, applied)),
        ("reply", _median_gap(applied, answered)),
    ]


def _median_gap(begin: Sequence[float], end: Sequence[float]) -> float:
    return statistics.median(after - before for before, after in zip(begin, end, strict=True))


def fdatasync_seconds(directory: Path) -> float:
    """The median of one fdatasync of a record's size in a file that is written already."""
    path = directory / "fdatasync"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, bytes(_RESERVED), 0)
        os.fsync(descriptor)
        record, place = bytes(payload.SIZE), iter(range(0, _RESERVED - payload.SIZE, payload.SIZE))

        def once() -> None:
            os.pwrite(descriptor, record, next(place))
            os.fdatasync(descriptor)

        return _median_time(once)
    finally:
        os.close(descriptor)
        path.unlink()


def round_trip_seconds() -> float:
    """The median of one round trip of a record's size to another thread over the loopback interface, without TLS."""
    with _echo() as connection:
        record = bytes(payload.SIZE)

        def once() -> None:
            connection.sendall(record)
            received = 0
            while received < payload.SIZE:
                received += len(connection.recv(payload.SIZE))

        return _median_time(once)


@contextlib.contextmanager
def _echo() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()

    def serve() -> None:
        while data := accepted.recv(payload.SIZE):
            accepted.sendall(data)
        accepted.close()

    for each in (connection, accepted):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    thread = threading.Thread(target=serve)
    thread.start()
    with connection:
        yield connection
        connection.shutdown(socket.SHUT_WR)
        thread.join()


def _median_time(once: Callable[[], None]) -> float:
    taken = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        once()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
