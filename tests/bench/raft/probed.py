"""A coordinator with stop watches: `python -m tests.bench.raft.probed FILE --config …` writes its times to FILE.

The functions at which one part of a commit ends and the next begins are wrapped from outside: what is installed
carries no stop watches.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.cli import main
from coordinator.raft.runner import RaftRunner
from coordinator.raft.storage.disk import OsFile
from coordinator.replication.replicator import ReplicatedState
from coordinator.services.tasks import Tasks

_KEPT = 20_000

times: dict[str, deque[float]] = {
    name: deque(maxlen=_KEPT) for name in ("asked", "proposed", "applying", "applied", "answered", "sync_seconds")
}


def _mark(before: str | None, after: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap a coroutine function: note when it is entered and left."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*values: Any, **named: Any) -> Any:
            if before is not None:
                times[before].append(time.perf_counter())
            try:
                return await function(*values, **named)
            finally:
                if after is not None:
                    times[after].append(time.perf_counter())

        return wrapped

    return wrap


def _install() -> None:
    apply, datasync = ReplicatedState.apply, OsFile.datasync

    def timed_apply(self: ReplicatedState, *values: Any) -> Any:
        times["applying"].append(time.perf_counter())
        try:
            return apply(self, *values)
        finally:
            times["applied"].append(time.perf_counter())

    def timed_datasync(self: OsFile) -> None:
        begin = time.perf_counter()
        datasync(self)
        times["sync_seconds"].append(time.perf_counter() - begin)

    ReplicatedState.apply = timed_apply  # type: ignore[assignment, method-assign]
    OsFile.datasync = timed_datasync  # type: ignore[method-assign]
    RaftRunner.propose = _mark("proposed", None)(RaftRunner.propose)  # type: ignore[method-assign]
    Tasks.submit = _mark("asked", "answered")(Tasks.submit)  # type: ignore[method-assign]


if __name__ == "__main__":
    _install()
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({name: list(values) for name, values in times.items()}))
    sys.exit(code)
