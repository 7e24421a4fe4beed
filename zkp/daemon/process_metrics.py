"""Process metrics of all daemons: memory, CPU, file descriptors, version, disk."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


def watch_process(registry: CollectorRegistry, *, version: str, data_dir: Path | None = None) -> None:
    """Register metrics of this process, and of the file system of `data_dir` if the daemon has one."""
    # A creation time stamp per counter would add half as many samples again, and is not used.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it
    ProcessCollector(registry=registry)
    build = Gauge(
        "zkp_build_info",
        "Always 1, with the running version. Several versions outside of an upgrade: finish the upgrade.",
        ["version", "python"],
        registry=registry,
    )
    build.labels(version, platform.python_version()).set(1)
    if data_dir is not None:
        registry.register(DiskMetrics(data_dir))


class DiskMetrics(Collector):
    """Size and free space of the file system of one directory, read at each scrape."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the directory may not exist yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics with their present values."""
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return
        yield GaugeMetricFamily(
            "zkp_disk_size_bytes", "Size of the disk of the daemon's data.", float(found.f_blocks * found.f_frsize)
        )
        yield GaugeMetricFamily(
            "zkp_disk_free_bytes",
            "Bytes of that disk that the daemon can still use. At 0 a coordinator exits: free space before.",
            float(found.f_bavail * found.f_frsize),
        )
