"""The demo: its result, and no process left in any case."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.process import orphans, python_module

_TIMEOUT_S = 240.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has just started."""
    command = python_module("zkp.cli", "local", "demo", "--dir", str(tmp_path / "demo"))
    # A run in the background may have been told to ignore SIGINT, and children inherit that.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as process:
        yield process
        process.kill()
    LocalCluster(tmp_path / "demo").down()


@pytest.mark.usefixtures("closed_programs")
def test_the_demo_does_the_main_job(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """A killed leader, every task completed once, every proof verified, no process left, status 0.

    Its programs and its data lie below directories that only their owner may enter.
    """
    said, _ = demo.communicate(timeout=_TIMEOUT_S)

    assert demo.returncode == 0, said
    assert "==> killed the leader coordinator-" in said
    assert "34 of 34 proofs are valid" in said
    assert "34 tasks submitted, 34 completed, each with exactly one accepted result" in said
    assert "PostgreSQL holds the same 34" in said
    assert orphans(tmp_path / "demo") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(
    demo: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    """SIGINT and SIGTERM both stop every process."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("coordinator-1 is ready"):
            break
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=_TIMEOUT_S)

    assert demo.returncode == 130, said
    assert "stopped every process" in said
    assert orphans(tmp_path / "demo") == []
