"""Log lines for programs, for eyes and for the journal: the same words and fields in each."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zkp.daemon import logs
from zkp.daemon.logs import JournalHandler, JsonFormatter, ReadableFormatter, configure


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class FakeTransport:
    """Keeps what would go to the journal."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.socket = io.BytesIO()

    def send(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self.sent.append(dict(pairs))


@pytest.fixture(autouse=True)
def root_logger_restored() -> Iterator[None]:
    """Leaves the logging of the test run as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def fail(words: str) -> None:
    """What a traceback is about."""
    raise ValueError(words)


def log_to(stream: io.StringIO, level: str = "info") -> logging.Logger:
    """A logger whose lines end in the stream."""
    configure(level, stream=stream, environ={})
    return logging.getLogger("zkp.test")


def test_a_pipe_gets_json() -> None:
    """One object a line: time, level, logger, words, and those of the extra fields that are known."""
    stream = io.StringIO()
    log = log_to(stream)
    log.info("task %s", "proved", extra={"task_id": "t-1", "term": 3, "peer": None, "unknown": "x"})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "zkp.test",
        "message": "task proved",
        "task_id": "t-1",
        "term": 3,
    }


def test_an_exception_is_part_of_its_line() -> None:
    """A traceback does not break the line it belongs to."""
    stream = io.StringIO()
    log = log_to(stream)
    try:
        fail("no\nproof")
    except ValueError:
        log.exception("failed")
    (text,) = stream.getvalue().splitlines()
    assert json.loads(text)["exception"].endswith("ValueError: no\nproof")


def test_every_line_says_who_wrote_it() -> None:
    """So that the logs of many nodes can be mixed; a line about another node keeps that one's name."""
    stream = io.StringIO()
    configure("info", node_id="coordinator-1", stream=stream, environ={})
    log = logging.getLogger("zkp.test")
    log.info("entering follower state", extra={"term": 3, "peer": "coordinator-2"})
    log.info("leadership handed over", extra={"node_id": "coordinator-3"})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["node_id"], first["term"], first["peer"]) == ("coordinator-1", 3, "coordinator-2")
    assert second["node_id"] == "coordinator-3"


def test_a_terminal_is_not_told_its_own_name() -> None:
    """Whoever looks at it has started that node."""
    stream = Terminal()
    configure("info", node_id="coordinator-1", stream=stream, environ={})
    logging.getLogger("zkp.test").info("serving", extra={"term": 3})
    assert stream.getvalue().endswith(" zkp.test: serving term=3\n")


def test_a_terminal_gets_words() -> None:
    """Level, logger, words and fields in a row; a traceback below."""
    stream = Terminal()
    log = log_to(stream)
    try:
        fail("no proof")
    except ValueError:
        log.exception("failed", extra={"worker_id": "w-1"})
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith(" error    zkp.test: failed worker_id=w-1")
    assert rest[-1] == "ValueError: no proof"


@pytest.mark.parametrize("hostile", ["a\nINFO forged", "a\rforged", "a\x1b[2Jforged", "a\u2028forged", "a\x00b"])
def test_a_message_cannot_forge_a_line(hostile: str) -> None:
    """What peers send may not end a line or steer a terminal, in words and in fields."""
    for stream, formatter in ((Terminal(), ReadableFormatter()), (io.StringIO(), JsonFormatter())):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        record = logging.makeLogRecord({"msg": hostile, "name": "zkp", "levelno": 20, "levelname": "INFO"})
        record.peer = hostile
        handler.handle(record)
        line = stream.getvalue()
        assert line.count("\n") == 1
        assert line.removesuffix("\n").isprintable() or isinstance(formatter, JsonFormatter)
        assert "\x1b" not in line


def test_the_level_is_kept() -> None:
    """Less severe lines are left out; configuring again replaces what was there."""
    stream = io.StringIO()
    log = log_to(stream, "warning")
    log.info("too small")
    log.warning("seen")
    log_to(Terminal(), "debug")
    log.warning("elsewhere")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["seen"]
    assert len(logging.getLogger().handlers) == 1


def test_journal_records() -> None:
    """The journal gets level as priority, the fields under their own names, and a traceback in the message."""
    transport = FakeTransport()
    log = logging.getLogger("zkp.journal")
    log.setLevel("DEBUG")
    log.addHandler(JournalHandler(transport))  # a double
    log.propagate = False
    log.info("task proved", extra={"task_id": "t-1", "request_id": "r", "term": 2})
    try:
        fail("no proof")
    except ValueError:
        log.critical("failed", exc_info=True)
    log.log(25, "between")
    log.debug("small")
    first, second, *rest = transport.sent
    assert first["MESSAGE"] == "task proved"
    assert first["PRIORITY"] == 6
    assert {key: first[key] for key in first if key.startswith("ZKP_")} == {
        "ZKP_TASK_ID": "t-1",
        "ZKP_REQUEST_ID": "r",
        "ZKP_TERM": "2",
    }
    assert first["CODE_FILE"] == __file__
    assert first["LOGGER"] == "zkp.journal"
    assert second["PRIORITY"] == 2
    assert second["MESSAGE"].startswith("failed\nTraceback ")
    assert second["MESSAGE"].endswith("ValueError: no proof")
    assert [each["PRIORITY"] for each in rest] == [6, 7]


def test_a_journal_that_is_gone_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """When the journal does not take a record, the caller goes on."""

    class Broken(FakeTransport):
        def send(self, pairs: Iterable[tuple[str, Any]]) -> None:
            raise ConnectionRefusedError

    handler = JournalHandler(Broken())  # a double
    handler.handle(logging.makeLogRecord({"msg": "words", "levelno": 20}))
    assert "ConnectionRefusedError" in capsys.readouterr().err


def test_the_journal_is_used_only_where_it_is_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JOURNAL_STREAM must name this very stream; a redirected one gets JSON, as does a sandbox without journal."""
    monkeypatch.setattr(logs, "JournaldTransport", FakeTransport)
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        connected = f"{status.st_dev}:{status.st_ino}"
        for environ, kind in (
            ({"JOURNAL_STREAM": connected}, JournalHandler),
            ({"JOURNAL_STREAM": f"{status.st_dev}:1"}, logging.StreamHandler),
            ({"JOURNAL_STREAM": "nonsense"}, logging.StreamHandler),
            ({}, logging.StreamHandler),
        ):
            configure("info", stream=stream, environ=environ)
            assert type(logging.getLogger().handlers[0]) is kind

        def absent() -> FakeTransport:
            raise FileNotFoundError

        monkeypatch.setattr(logs, "JournaldTransport", absent)
        configure("info", stream=stream, environ={"JOURNAL_STREAM": connected})
        assert type(logging.getLogger().handlers[0]) is logging.StreamHandler
        configure("info", stream=sys.stderr, environ={})
