"""A daemon as systemd sees it: a process, its signals, its notifications, its exit code and its last words."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon.members import PATIENCE

ROOT = Path(__file__).parents[3]


class Supervisor:
    """Starts a specimen with a notification socket, and hears what it says."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._address = address
        self._process: subprocess.Popen[str] | None = None

    def start(self, temper: str, stop_timeout: float = PATIENCE, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.daemon.specimen", temper, str(stop_timeout)],
            cwd=ROOT,
            env={**os.environ, "NOTIFY_SOCKET": self._address, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )

    def hears(self) -> list[str]:
        """The assignments of the next notification."""
        return self._socket.recv(4096).decode().split("\n")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and what was logged."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in errors.splitlines()]

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with a socket in the file system, and one with an abstract socket."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    supervisor = Supervisor(address)
    yield supervisor
    supervisor.close()


def messages(lines: list[dict[str, Any]]) -> list[str]:
    """The words of the lines."""
    return [line["message"] for line in lines]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_reload_stop(supervisor: Supervisor, number: signal.Signals) -> None:
    """Readiness, a reload and the stop are notified in order; the daemon ends by itself with code 0."""
    supervisor.start("serve")
    assert supervisor.hears() == ["READY=1", "STATUS=serving"]
    supervisor.signal(signal.SIGHUP)
    reloading, monotonic = supervisor.hears()
    assert reloading == "RELOADING=1"
    assert monotonic.removeprefix("MONOTONIC_USEC=").isdigit()
    assert supervisor.hears() == ["READY=1"]
    supervisor.signal(number)
    assert supervisor.hears() == ["STOPPING=1"]
    code, lines = supervisor.end()
    assert code == 0
    assert messages(lines) == [
        "certificates read again",
        "reloaded",
        f"{number.name}, stopping",
        "stopped in order",
    ]


def test_a_failed_reload_is_survived(supervisor: Supervisor) -> None:
    """The line says why, later callbacks are called all the same, and the daemon is ready again."""
    supervisor.start("stubborn_reload")
    supervisor.hears()
    supervisor.signal(signal.SIGHUP)
    assert supervisor.hears()[0] == "RELOADING=1"
    assert supervisor.hears() == ["READY=1"]
    supervisor.signal(signal.SIGTERM)
    code, lines = supervisor.end()
    assert code == 0
    assert messages(lines)[:2] == [
        "reload failed, the previous stays in use: key.pem is missing",
        "certificates read again",
    ]


def test_the_watchdog_is_fed(supervisor: Supervisor) -> None:
    """When systemd waits for signs of life, they come again and again."""
    supervisor.start("serve", WATCHDOG_USEC="20000")
    heard = [supervisor.hears() for _ in range(4)]
    assert heard.count(["WATCHDOG=1"]) == 3
    supervisor.signal(signal.SIGTERM)
    assert supervisor.end()[0] == 0


@pytest.mark.parametrize(
    ("temper", "said", "traceback"),
    [
        ("background_fails", "pump failed, stopping", "RuntimeError: pump is dry"),
        ("thread_fails", "disk failed: no space left", None),
        ("cannot_start", "cannot listen on 127.0.0.1:1: taken; give another", None),
        ("crashes", "ended by an unexpected error", "KeyError: 'surprise'"),
    ],
)
def test_what_is_fatal_ends_the_process(
    supervisor: Supervisor, temper: str, said: str, traceback: str | None
) -> None:
    """One critical line says what failed, with a traceback for mistakes of the program alone; the code is 1."""
    supervisor.start(temper)
    code, lines = supervisor.end()
    assert code == 1
    (line,) = [each for each in lines if each["level"] == "critical"]
    assert line["message"] == said
    if traceback is None:
        assert "exception" not in line
    else:
        assert line["exception"].endswith(traceback)


def test_main_may_end_by_itself(supervisor: Supervisor) -> None:
    """When main returns, what still runs beside it is cancelled, and the code is 0."""
    supervisor.start("ends_by_itself")
    assert supervisor.end() == (0, [])


def test_a_stop_that_takes_too_long_is_cut_short(supervisor: Supervisor) -> None:
    """After its time main is cancelled, with a line and a non-zero code."""
    supervisor.start("dawdles", stop_timeout=0.05)
    supervisor.hears()
    supervisor.signal(signal.SIGTERM)
    code, lines = supervisor.end()
    assert code == 1
    assert "did not stop within 0.05 seconds, cancelling what is left" in messages(lines)


def test_a_second_signal_stops_at_once(supervisor: Supervisor) -> None:
    """Who presses Ctrl-C twice does not wait."""
    supervisor.start("dawdles")
    supervisor.hears()
    supervisor.signal(signal.SIGINT)
    assert supervisor.hears() == ["STOPPING=1"]
    supervisor.signal(signal.SIGINT)
    code, lines = supervisor.end()
    assert code == 1
    assert messages(lines) == ["SIGINT, stopping", "SIGINT again, stopping immediately"]


def test_a_stuck_process_ends_itself(supervisor: Supervisor) -> None:
    """Even when the event loop is blocked, the process ends, with a line and a code of its own."""
    supervisor.start("blocks", stop_timeout=0.05)
    supervisor.hears()
    supervisor.signal(signal.SIGTERM)
    code, lines = supervisor.end()
    assert code == 70
    assert messages(lines)[-1] == "shutdown timed out, exiting"


def test_nobody_to_notify_is_fine(supervisor: Supervisor) -> None:
    """Without a supervisor nothing is said; with one that is gone, a line is logged and the daemon works."""
    supervisor.start("ends_by_itself", NOTIFY_SOCKET="")
    assert supervisor.end() == (0, [])
    supervisor.start("ends_by_itself", NOTIFY_SOCKET="/nonexistent/notify")
    code, lines = supervisor.end()
    assert code == 0
    assert messages(lines)[0] == "systemd was not notified (READY=1): No such file or directory"
