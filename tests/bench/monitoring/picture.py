"""python -m tests.bench.monitoring.picture: makes docs/images/overview.svg from a real cluster at work.

A local cluster, Prometheus beside it, three minutes of tasks through both doors; in the middle the leader is killed
and comes back. Then the overview page's own queries are drawn as the page has them.
"""

import asyncio
import http.client
import json
import math
import tempfile
import time
import urllib.parse
from pathlib import Path

from tests.bench.monitoring.panels import picture
from zkp.cli.target import ClusterTarget
from zkp.client.errors import ClientError
from zkp.client.model import Submission
from zkp.client.tasks import TaskClient
from zkp.localcluster import prometheus
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.https import HttpsCaller
from zkp.localcluster.layout import CLIENT, GATEWAY
from zkp.proofs import circuits

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "monitoring" / "grafana" / "dashboards" / "overview.json"
PICTURE = ROOT / "docs" / "images" / "overview.svg"
SECONDS, KILL_AT, BACK_AT = 180, 80, 120
STEP = 3
_VARIABLES = {"$__rate_interval": "20s", "$node": ".*", "$circuit": ".*"}
_LIST = list(range(1, 1001))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zkp-picture-") as directory:
        cluster = LocalCluster(Path(directory))
        try:
            cluster.up(print)
            cluster.monitor()
            began = time.time()
            asyncio.run(_work(cluster))
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            PICTURE.write_text(_draw(cluster, began), encoding="utf-8")
        finally:
            cluster.down()
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


async def _work(cluster: LocalCluster) -> None:
    access = ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(CLIENT))
    async with access.connect() as connection, asyncio.TaskGroup() as group:
        group.create_task(_submit(TaskClient(connection)))
        group.create_task(asyncio.to_thread(_call, cluster))
        group.create_task(asyncio.to_thread(_kill, cluster))


def _kill(cluster: LocalCluster) -> None:
    time.sleep(KILL_AT)
    leader = cluster.wait_for_leader()
    cluster.kill(leader.id)
    time.sleep(BACK_AT - KILL_AT)
    cluster.start(leader.id)


async def _submit(client: TaskClient) -> None:
    """Waves: more than the workers can prove, then less."""
    end = asyncio.get_running_loop().time() + SECONDS
    number = 0
    while (now := asyncio.get_running_loop().time()) < end:
        number += 1
        name, request = ("addition", {"a": number, "b": 1}) if number % 3 else ("merkle_proof", _merkle(number))
        prepared = circuits.prepare(name, request)
        try:
            await client.submit(Submission(f"picture-{number}", name, prepared.inputs, prepared.public_inputs))
        except ClientError as error:
            print(f"not accepted: {error}")
        await asyncio.sleep(0.25 if (end - now) % 60 > 30 else 1.5)


def _merkle(number: int) -> dict[str, object]:
    return {"leaves": _LIST, "leaf_index": number % len(_LIST)}


def _call(cluster: LocalCluster) -> None:
    """A client over HTTPS, once a second."""
    caller, place = HttpsCaller(cluster.layout.identity(CLIENT)), cluster.profile.addresses[GATEWAY]["https"]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        caller.post(place, "/api/v1/tasks/addition", {"a": 20, "b": 22})
        time.sleep(1)


def _draw(cluster: LocalCluster, began: float) -> str:
    address = prometheus.address(cluster.profile)

    def query(expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        for name, value in _VARIABLES.items():
            expression = expression.replace(name, value)
        span = {"query": expression, "start": f"{began:.0f}", "end": f"{time.time():.0f}", "step": str(STEP)}
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", f"/api/v1/query_range?{urllib.parse.urlencode(span)}")
        found = json.load(connection.getresponse())["data"]["result"]
        connection.close()
        series = [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found]
        known = [(labels, [point for point in points if not math.isnan(point[1])]) for labels, points in series]
        return [(labels, points) for labels, points in known if points]

    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    caption = (
        f"{SECONDS} s of a local cluster; its leader was killed after {KILL_AT} s and came back after {BACK_AT} s"
    )
    return picture(dashboard, query, caption)


if __name__ == "__main__":
    main()
