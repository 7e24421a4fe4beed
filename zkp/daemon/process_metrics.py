"""What Prometheus may know of any daemon as a process: its memory, time and files, its version, its disk."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


def watch_process(registry: CollectorRegistry, *, version: str, data_dir: Path | None = None) -> None:
    """Add this process to the registry, and the disk of `data_dir` where the daemon keeps something."""
    # A time stamp beside each counter would be half as many samples again, and is of no use here.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it
    ProcessCollector(registry=registry)
    build = Gauge(
        "zkp_build_info",
        "Always 1; the running version. More than one version for longer than an upgrade: finish the upgrade.",
        ["version", "python"],
        registry=registry,
    )
    build.labels(version, platform.python_version()).set(1)
    if data_dir is not None:
        registry.register(DiskMetrics(data_dir))


class DiskMetrics(Collector):
    """The file system of one directory, looked at when it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Nothing: the directory may come later."""
        return ()

    def collect(self) -> Iterable[Metric]:
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
