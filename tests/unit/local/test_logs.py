"""Reading the daemons' logs."""

import itertools
import json
from pathlib import Path

from zkp.localcluster import logs

LINE = json.dumps(
    {
        "ts": "2026-11-23T14:07:24.123456Z",
        "level": "info",
        "logger": "zkp.worker",
        "message": "task proved",
        "task_id": "t-1",
    }
)


def test_a_daemon_line_becomes_words_with_its_fields() -> None:
    """A line has time, level, logger, message and fields."""
    assert logs.readable(LINE) == "14:07:24.123 info    zkp.worker: task proved task_id=t-1"


def test_other_lines_stay_as_they_are() -> None:
    """Lines of PostgreSQL, other JSON and malformed JSON are unchanged."""
    for line in ("LOG:  database system is ready", "[1, 2]", '{"ts": 1}', "{", "[" * 100_000, ""):
        assert logs.readable(line) == line


def test_an_exception_is_shown_below_its_line() -> None:
    """A traceback follows on its own lines."""
    line = json.dumps({**json.loads(LINE), "exception": "ValueError: no"})

    assert logs.readable(line).splitlines()[1] == "ValueError: no"


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    """`tail` returns the requested number of lines, newest last."""
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")

    assert logs.tail(log, 2) == ["two", "three"]
    assert logs.tail(tmp_path / "none.log", 2) == []


def test_last_error_is_the_line_that_names_it(tmp_path: Path) -> None:
    """The error is found even if hints or empty lines follow it."""
    log = tmp_path / "a.log"
    log.write_text("starting\nFATAL:  lock file is empty\nHINT:  wait\n\n", encoding="utf-8")

    assert logs.last_error(log) == "FATAL:  lock file is empty"


def test_last_error_without_an_error_is_the_last_line(tmp_path: Path) -> None:
    """Without an error it is the last line."""
    log = tmp_path / "a.log"
    log.write_text("starting\nserving\n", encoding="utf-8")

    assert logs.last_error(log) == "serving"
    assert logs.last_error(tmp_path / "none.log") == "no output"


def test_following_gives_new_whole_lines_of_every_log(tmp_path: Path) -> None:
    """Only new, complete lines are yielded."""
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    first.write_text("old\n", encoding="utf-8")
    naps = itertools.count()

    def sleep(_: float) -> None:
        nap = next(naps)
        with first.open("a", encoding="utf-8") as file:
            file.write("new ha" if nap == 0 else "lf\n")
        if nap == 1:
            second.write_text("appeared\n", encoding="utf-8")

    lines = logs.follow({"a": first, "b": second}, sleep)

    assert [next(lines), next(lines)] == [("a", "new half"), ("b", "appeared")]
