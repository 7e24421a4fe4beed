"""Notifications to systemd, by the protocol of sd_notify(3); nothing is sent without NOTIFY_SOCKET.

A failed notification is only logged: it must not stop a working daemon.
"""

import logging
import socket
import time
from collections.abc import Mapping

log = logging.getLogger("zkp.daemon")


class Notifier:
    """Sends notifications to the socket in NOTIFY_SOCKET, if it is set."""

    def __init__(self, environ: Mapping[str, str], process_id: int) -> None:
        """Args: process_id: ID of this process, which is compared with WATCHDOG_PID."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = _watchdog_interval(environ, process_id)
        """Seconds between two `watchdog` calls; None if the watchdog is off."""

    def ready(self, status: str = "") -> None:
        """Report the end of the start or of a reload."""
        self._send("READY=1", *([f"STATUS={_line(status)}"] if status else []))

    def reloading(self) -> None:
        """Report the start of a reload; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report the start of the stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the status line of `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        """Reset systemd's watchdog timer."""
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
    """Return half of the watchdog timeout in seconds, as sd_watchdog_enabled(3) recommends."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or environ.get("WATCHDOG_PID", str(process_id)) != str(process_id):
        return None
    return int(microseconds) / 2_000_000 or None


def _line(text: str) -> str:
    return " ".join(text.split())
