"""Telling systemd how this process is (sd_notify(3)): a datagram of assignments, nothing when nobody asked.

A failed notification is logged and forgotten: it must not end a daemon that works.
"""

import logging
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("zkp.daemon")


class Notifier:
    """Speaks to the socket in NOTIFY_SOCKET; silent without one."""

    def __init__(self, environ: Mapping[str, str], process_id: int) -> None:
        """process_id: of this process, to tell whether systemd's watchdog is meant for it."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = _watchdog_interval(environ, process_id)
        """Seconds between two `watchdog` calls; None when nobody waits for them."""

    def ready(self, status: str = "") -> None:
        """The start, or a reload, is done."""
        self._send("READY=1", *([f"STATUS={_line(status)}"] if status else []))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The stop begins."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.warning("systemd was not notified (%s): %s", assignments[0], error.strerror or error)


def _watchdog_interval(environ: Mapping[str, str], process_id: int) -> float | None:
    """Half of what systemd allows, as sd_watchdog_enabled(3) advises."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or environ.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    return int(microseconds) / 2_000_000 or None


def _line(text: str) -> str:
    return " ".join(text.split())
