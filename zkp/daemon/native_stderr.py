"""Capture of what C libraries write to standard error, as log records.

gRPC's core writes lines of its own format to file descriptor 2, handshakes that it refused among them: raw lines
between the JSON ones, which no level or bound of this process's logging reaches. Here descriptor 2 becomes a pipe,
and a thread turns what comes out of it into records. Python's own standard error stays what it was.
"""

import contextlib
import logging
import os
import re
import sys
import threading
import time
from typing import TextIO

from zkp.daemon.bounded_log import BoundedLog

log = logging.getLogger("zkp.native")
grpc_log = logging.getLogger("zkp.grpc")

_STDERR = 2
_MAX_LINE_BYTES = 4096
_ABSL_LINE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\S+:\d+)\] (.*)")
_HANDSHAKE = re.compile(r"Handshake failed with error \S+:(?: error:[0-9a-f]+:SSL routines:\w*:(\w+)(?:: (.*))?)?.*")
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate, or does not offer TLS 1.3",
    "CERTIFICATE_VERIFY_FAILED": "the peer's certificate does not verify",
    "HTTP_REQUEST": "the peer speaks plain HTTP",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "NO_SHARED_CIPHER": "the peer offers no cipher of TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "the peer does not offer TLS 1.3",
}


def capture() -> TextIO:
    """Turn what is written to descriptor 2 into log records from now on; the stream that leads where 2 led before.

    `sys.stderr` becomes that stream too, so that tracebacks and usage errors arrive as they are. To be called once,
    before other threads are started. What a library writes in the moment in which it ends the process may be lost.
    """
    reading, writing = os.pipe()
    own = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(writing, _STDERR)
    os.close(writing)
    sys.stderr = own
    threading.Thread(target=_read, args=(reading,), name="native stderr", daemon=True).start()
    return own


def _read(descriptor: int) -> None:
    refused = BoundedLog(grpc_log, time.monotonic)
    with os.fdopen(descriptor, "rb") as lines:
        while line := lines.readline(_MAX_LINE_BYTES):
            if text := line.decode("utf-8", "backslashreplace").strip():
                with contextlib.suppress(Exception):  # a line that cannot be logged must not end the thread
                    record(text, refused)


def record(line: str, refused: BoundedLog) -> None:
    """Log one line. refused: rate-limited log for refusals, which unauthenticated peers can trigger."""
    absl = _ABSL_LINE.fullmatch(line)
    if absl is None:
        log.warning("%s", line)
        return
    severity, place, text = absl.groups()
    handshake = _HANDSHAKE.fullmatch(text)
    if handshake is not None:
        reason = handshake[1] or text
        why = _REASONS.get(reason, reason)
        if reason == "CERTIFICATE_VERIFY_FAILED" and handshake[2]:
            why = f"{why} ({handshake[2]})"
        refused.warning(f"refused a gRPC connection: {why}; gRPC does not tell its address")
    elif severity == "I":
        grpc_log.info("%s (%s)", text, place)
    else:
        refused.warning(f"{text} ({place})")
