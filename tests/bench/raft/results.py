"""What was measured, kept as JSON beside the page, so that one part can be measured again without the others."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the quarter of the values below and above it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def load(path: Path) -> dict[str, Any]:
    """Part → its results; empty when nothing was measured yet."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def save(path: Path, part: str, values: dict[str, Any]) -> None:
    """Put a part's results in the place of older ones, with when and on what they were measured."""
    everything = load(path) | {part: {**values, "machine": machine()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def machine() -> str:
    """Processor, system and load, in one sentence."""
    models = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load_average = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores of {models[0] if models else platform.processor()}, {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load average {load_average} at the end, "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )


def _cpu_lines() -> list[str]:
    return _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.exists() else []
