"""Logging of a daemon: native journal records under systemd, otherwise standard error.

Messages are fixed text; identifiers are fields, in the `extra` of a call:

    log.info("task proved", extra={"task_id": task_id, "worker_id": worker_id})

In the journal such a field is ZKP_TASK_ID (`journalctl ZKP_TASK_ID=…`), in a pipe a member of the JSON line,
on a terminal it follows the message.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from logging_journald import JournaldTransport

FIELDS = (
    "task_id",
    "worker_id",
    "attempt",
    "circuit",
    "term",
    "node_id",
    "peer",
    "request_id",
    "cluster_id",
    "revision",
    "lag",
    "migration",
    "version",
    "reason",
)
"""The keys of `extra` that are kept."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


def configure(
    level: str,
    *,
    node_id: str | None = None,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send all logging of this process to one place, from `level` ("debug" … "error") upwards.

    node_id: who this process is; goes with every record into journal and JSON, so that logs of many nodes can be
    mixed. stream: standard error when None. Calling it again replaces what was set before.
    """
    handler = _handler(sys.stderr if stream is None else stream, environ)
    handler.addFilter(lambda record: _sign(record, node_id))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def _sign(record: logging.LogRecord, node_id: str | None) -> bool:
    if node_id is not None and not hasattr(record, "node_id"):
        record.node_id = node_id
    return True


def _handler(stream: TextIO, environ: Mapping[str, str]) -> logging.Handler:
    if _is_journal(stream, environ.get("JOURNAL_STREAM", "")):
        try:
            return JournalHandler(JournaldTransport())
        except OSError:  # a sandbox without the journal's socket: what is written still gets there
            pass
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ReadableFormatter() if stream.isatty() else JsonFormatter())
    return handler


def _is_journal(stream: TextIO, journal_stream: str) -> bool:
    """Systemd names the device and inode it connected; a redirected stream has others (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts (UTC), level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "ts": _time(record).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_fields(record)),
        }
        if trace := _trace(self, record):
            line["exception"] = trace
        return json.dumps(line, ensure_ascii=False, default=str)


class ReadableFormatter(logging.Formatter):
    """A line for a terminal: local time, level, logger, message, the fields but the node's; tracebacks below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        clock = _time(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={value}" for key, value in _fields(record) if key != "node_id")
        words = _one_line(f"{record.getMessage()}{fields}")
        trace = _trace(self, record)
        line = f"{clock} {record.levelname.lower():<8} {record.name}: {words}"
        return f"{line}\n{trace}" if trace else line


class JournalHandler(logging.Handler):
    """Native journal records: level as PRIORITY, fields as ZKP_…, tracebacks below the words in MESSAGE."""

    def __init__(self, transport: JournaldTransport) -> None:
        super().__init__()
        self._transport = transport
        self._formatter = logging.Formatter()
        self._identifier = Path(sys.argv[0]).name

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record to the journal."""
        try:
            self._transport.send(self._pairs(record))
        except Exception:  # noqa: BLE001 - logging must never break what it reports on
            self.handleError(record)

    def close(self) -> None:
        """Release the handler."""
        connection: socket.socket = self._transport.socket
        connection.close()
        super().close()

    def _pairs(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        trace = _trace(self._formatter, record)
        yield "MESSAGE", f"{record.getMessage()}\n{trace}" if trace else record.getMessage()
        yield (
            "PRIORITY",
            next((code for level, code in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY),
        )
        yield "SYSLOG_IDENTIFIER", self._identifier
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", record.lineno
        yield "CODE_FUNC", record.funcName
        for key, value in _fields(record):
            yield f"ZKP_{key.upper()}", str(value)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for key in FIELDS:
        value = getattr(record, key, None)
        if value is not None:
            yield key, value


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _one_line(text: str) -> str:
    """Escape unprintable characters, since peers' input in a message must not forge lines or control a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
