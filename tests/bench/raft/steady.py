"""Ten minutes of the same load, with a PostgreSQL that takes the record: memory must not grow.

Tasks are cancelled as soon as they are accepted, so that they end without workers; once the record holds them and
their short retention has passed, they leave the memory.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from tests.bench.raft import coordinators, payload
from tests.bench.raft.clusters import channel
from tests.bench.raft.comparison import Say
from tests.bench.raft.coordinators import CoordinatorCluster
from tests.bench.raft.workshop import LIKE_ETCD, Workshop, running
from tests.integration.postgres import Databases, EmbeddedServer
from zkp.protocol.v1 import coordinator_pb2 as pb

RATE = 200
"""Tasks a second, each submitted and cancelled."""

_RETENTION = "5s"
_LOOK_EVERY_S = 10.0
_OUTSTANDING = 16
_CANCEL = "/zkp.v1.TaskService/CancelTask"
_SUBMIT = "/zkp.v1.TaskService/SubmitTask"


def measure(workshop: Workshop, seconds: float, say: Say) -> dict[str, Any]:
    """Resident bytes of each member every ten seconds, the leader first."""
    server = EmbeddedServer()
    try:
        at = server.parameters(Databases(server).create())
        database = {"host": at["host"], "port": int(at["port"]), "name": at["dbname"], "user": at["user"]}
        options: coordinators.Options = {**LIKE_ETCD, "database": database, "tasks": {"retention": _RETENTION}}
        with running(lambda: workshop.coordinators(options)) as cluster:
            samples, tasks = uvloop.run(_load(workshop.identities, cluster, seconds, say))
    finally:
        server.close()
    return {"rate": RATE, "seconds": seconds, "tasks": tasks, "every": _LOOK_EVERY_S, "samples": samples}


async def _load(
    identities: Path, cluster: CoordinatorCluster, seconds: float, say: Say
) -> tuple[list[list[int]], int]:
    leader = cluster.leader()
    members = sorted(cluster.members.values(), key=lambda member: member.name != leader)
    begin = time.perf_counter()
    end = begin + seconds
    task_ids, make = payload.ids(), payload.quickly(payload.submit_request)
    done = 0
    async with channel(identities, cluster.address(leader)) as connection:
        submit: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = connection.unary_unary(_SUBMIT)
        cancel: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = connection.unary_unary(_CANCEL)

        async def caller(number: int) -> None:
            nonlocal done
            due = begin + number / RATE
            while due < end:
                await asyncio.sleep(due - time.perf_counter())
                task_id = next(task_ids)
                await submit(make(task_id))
                await cancel(pb.CancelTaskRequest(task_id=task_id).SerializeToString())
                done += 1
                due += _OUTSTANDING / RATE

        callers = [asyncio.create_task(caller(number)) for number in range(_OUTSTANDING)]
        samples = []
        while time.perf_counter() < end:
            await asyncio.sleep(_LOOK_EVERY_S)
            samples.append([member.resident_bytes() for member in members])
            say(f"{done} tasks, MiB: {', '.join(str(value >> 20) for value in samples[-1])}")
        await asyncio.gather(*callers)
    return samples, done
