"""What a growing number of tasks costs: memory of the leader, disk, and the time of a restart after a kill."""

import time
from typing import Any

import uvloop

from tests.bench.raft import load, payload
from tests.bench.raft.clusters import channel
from tests.bench.raft.comparison import Say
from tests.bench.raft.coordinators import CoordinatorCluster
from tests.bench.raft.workshop import LIKE_ETCD, Workshop, running

SIZES = (10_000, 100_000, 1_000_000)
"""Tasks in memory, none of them finished."""

_OUTSTANDING = 4


def measure(workshop: Workshop, sizes: tuple[int, ...], say: Say) -> dict[str, Any]:
    """At each of `sizes`: bytes of memory and disk, and seconds from a start to being caught up."""
    results = []
    with running(lambda: workshop.coordinators(LIKE_ETCD)) as cluster:
        held = 0
        for size in sizes:
            uvloop.run(_fill(workshop, cluster, size - held))
            held = size
            results.append({"tasks": size, **_look(cluster)})
            say(", ".join(f"{name} {value:,.2f}" for name, value in results[-1].items()))
    return {"sizes": results}


async def _fill(workshop: Workshop, cluster: CoordinatorCluster, tasks: int) -> None:
    async with channel(workshop.identities, cluster.address(cluster.leader())) as connection:
        await load.so_many(load.submit_many(connection), _OUTSTANDING, tasks // payload.BATCH)


def _look(cluster: CoordinatorCluster) -> dict[str, float]:
    leader = cluster.leader()
    follower = next(name for name in cluster.members if name != leader)
    member = cluster.members[follower]
    memory = cluster.members[leader].resident_bytes()
    member.kill()
    begin = time.perf_counter()
    member.start()
    cluster.wait_for(follower)
    return {
        "leader_bytes": memory,
        "disk_bytes": cluster.disk_bytes(follower),
        "restart_seconds": time.perf_counter() - begin,
        "restarted_bytes": member.resident_bytes(),
    }
