"""Measure the coordinators beside etcd, and write docs/benchmarks/raft.md.

Example: python -m tests.bench.raft comparison latency --rounds 7

Parts: comparison (throughput beside etcd; under six minutes), latency (where one commit's time goes), failover
(leaders killed and frozen), growth (memory and restarts up to a million tasks), steady (ten minutes of load). What
was measured is kept beside the page: a part that is not named keeps its last results.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.raft import chart, comparison, failover, growth, latency, page, results, steady
from tests.bench.raft.processes import BenchError
from tests.bench.raft.workshop import Workshop, workshop

QUICK = ("comparison", "latency", "failover")
LONG = ("growth", "steady")
_PAGE = Path("docs/benchmarks/raft.md")


def main() -> int:
    """Run the parts that were named; 0, or 1 when something kept them from being measured."""
    options = _options()
    kept = options.page.with_suffix(".json")
    try:
        with workshop(options.directory) as place:
            for name in options.parts or QUICK:
                _say(f"measuring {name}")
                results.save(kept, name, _parts(place, options)[name]())
                _write(options.page, results.load(kept))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _say(f"wrote {options.page}")
    return 0


def _parts(place: Workshop, options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        "comparison": lambda: comparison.measure(place, options.rounds, options.seconds, _say),
        "latency": lambda: latency.measure(place, seconds=10),
        "failover": lambda: failover.measure(place, options.times, _say),
        "growth": lambda: growth.measure(place, growth.SIZES[: options.sizes], _say),
        "steady": lambda: steady.measure(place, options.minutes * 60, _say),
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    picture = path.with_suffix(".svg")
    if "comparison" in values:
        picture.write_text(chart.draw(values["comparison"]["figures"]), encoding="utf-8")
    path.write_text(page.write(values, picture.name), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.raft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *QUICK, *LONG], help=f"what to measure ({', '.join(QUICK)})")
    parser.add_argument("--rounds", type=int, default=7, help="of the comparison (7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="a cell of the comparison (1.5)")
    parser.add_argument("--times", type=int, default=20, help="leaders taken away, each way (20)")
    parser.add_argument("--sizes", type=int, default=3, choices=(1, 2, 3), help="of the growth: 10k, 100k, 1M (3)")
    parser.add_argument("--minutes", type=float, default=10, help="of the steady load (10)")
    parser.add_argument("--directory", type=Path, help="where the clusters' disks are (the system's temporary one)")
    parser.add_argument("--page", type=Path, default=_PAGE, help=f"the page to write ({_PAGE})")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
