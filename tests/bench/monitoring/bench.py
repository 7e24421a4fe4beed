"""What being watched costs: processor time a scrape of each daemon, and of an observation on the commit path.

    python -m tests.bench.monitoring.bench                      # prints
    python -m tests.bench.monitoring.bench docs/benchmarks/monitoring.md

A local cluster that has had some work. Each daemon's processor time is taken over SCRAPES scrapes on a connection
that stays open, as Prometheus's does, and over as long without any. Then `commit_path` compares commits with and
without histograms; some minutes, best with nothing else on the machine. Nothing is asserted: a table is written.
"""

import argparse
import asyncio
import http.client
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry

from coordinator.monitoring.raft import RaftTimings
from pki.tls.material import TlsFiles, TlsMaterial
from tests.bench.monitoring import commit_path
from tests.bench.monitoring.commit_path import Cost
from zkp.cli.target import ClusterTarget
from zkp.client.model import Submission
from zkp.client.tasks import TaskClient
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.layout import CLIENT, COORDINATORS, GATEWAY, PROMETHEUS
from zkp.proofs import circuits

SCRAPES = 200
INTERVAL_S = 5.0
TASKS = 300
OBSERVATIONS = 200_000
_METRICS = {**dict.fromkeys(COORDINATORS, "metrics"), "worker-1": "health", GATEWAY: "health"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=30, help="with and without histograms (30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zkp-bench-") as directory:
        cluster = LocalCluster(Path(directory))
        try:
            cluster.up(print)
            asyncio.run(_work(cluster))
            commit = _commit_seconds(cluster)
            rows = [_scraped(cluster, name) for name in _METRICS]
        finally:
            cluster.down()
    costs = commit_path.measure(options.rounds, print)
    text = _report(rows, _observation(), commit) + _compared(costs, options.rounds)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


async def _work(cluster: LocalCluster) -> None:
    async with ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(CLIENT)).connect() as connection:
        client = TaskClient(connection)
        for number in range(TASKS):
            prepared = circuits.prepare("addition", {"a": number, "b": 1})
            await client.submit(Submission(f"bench-{number}", "addition", prepared.inputs, prepared.public_inputs))
        for number in range(TASKS):
            await client.wait(f"bench-{number}")


class Scraper:
    """GET /metrics over one connection, as Prometheus."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        files = TlsFiles.in_directory(cluster.layout.identity(PROMETHEUS))
        place = cluster.profile.addresses[name][_METRICS[name]]
        context = TlsMaterial.load(files).client_context()
        self._connection = http.client.HTTPSConnection(place, timeout=30, context=context)

    def get(self) -> bytes:
        """The page."""
        self._connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        return self._connection.getresponse().read()


def _scraped(cluster: LocalCluster, name: str) -> tuple[str, int, float]:
    """(name, samples a page, processor seconds a scrape)."""
    pid = next(member.pid for member in cluster.members() if member.name == name)
    process = psutil.Process(pid)
    scraper = Scraper(cluster, name)
    samples = sum(not line.startswith(b"#") for line in scraper.get().splitlines())
    began = time.monotonic()
    scraping = _cpu(process, lambda: [scraper.get() for _ in range(SCRAPES)])
    took = time.monotonic() - began
    idle = _cpu(process, lambda: time.sleep(took))
    return name, samples, max(0.0, scraping - idle) / SCRAPES


def _cpu(process: psutil.Process, work: Callable[[], object]) -> float:
    """Processor seconds that the process takes while this one does `work`."""
    before = process.cpu_times()
    work()
    after = process.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


def _observation() -> float:
    """Seconds of one observation of a histogram of the commit path."""
    histogram = RaftTimings(CollectorRegistry()).append
    began = time.perf_counter()
    for _ in range(OBSERVATIONS):
        histogram.observe(0.0007)
    return (time.perf_counter() - began) / OBSERVATIONS


def _commit_seconds(cluster: LocalCluster) -> float:
    """Mean of the leader's own histogram: from proposal to commitment."""
    leader = cluster.wait_for_leader().id
    page = Scraper(cluster, leader).get().decode()
    words = [line.split() for line in page.splitlines() if line.startswith("zkp_raft_append")]
    values = {name: float(value) for name, value in words}
    return values["zkp_raft_append_seconds_sum"] / values["zkp_raft_append_seconds_count"]


def _report(rows: list[tuple[str, int, float]], observation: float, commit: float) -> str:
    lines = [
        "# What being watched costs",
        "",
        f"Made by `python -m tests.bench.monitoring.bench` on {platform.system()} {platform.release()},",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[1]:.0f}.",
        "",
        f"Processor time of each daemon over {SCRAPES} scrapes on an open mutual TLS connection, less what it takes",
        f"in the same time without any; and as a share of one core at a scrape every {INTERVAL_S:g} s.",
        "",
        "| daemon | samples | a scrape | share of a core |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {samples} | {seconds * 1000:.2f} ms | {seconds / INTERVAL_S * 100:.3f} % |"
        for name, samples, seconds in rows
    ]
    lines += [
        "",
        f"An observation of a histogram takes {observation * 1e6:.2f} µs. A commit makes two (append, fsync) and",
        f"took {commit * 1e3:.2f} ms on the mean here: {2 * observation / commit * 100:.2f} % of it.",
    ]
    return "\n".join(lines) + "\n"


def _compared(costs: list[Cost], rounds: int) -> str:
    lines = [
        "",
        "## The commit path with and without histograms",
        "",
        "Processor time of three coordinators an accepted task, while append and fsync are observed and while they",
        f"are not, in the same processes in turn, {rounds} rounds. What two equal slices of a round differ by is how",
        "exact that is. Medians, with the quarters below and above.",
        "",
        "| outstanding | with histograms | without | histograms take | equal slices differ by |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {cost.outstanding} | {cost.seconds[commit_path.WITH] * 1e6:.0f} µs | "
        f"{cost.seconds[commit_path.WITHOUT] * 1e6:.0f} µs | {commit_path.share(cost.observed)} | "
        f"{commit_path.share(cost.control)} |"
        for cost in costs
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
