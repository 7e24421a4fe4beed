"""Format and destination of the output."""

import io

import pytest

from zkp.cli import output


class Terminal(io.StringIO):
    """A stream that reports that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_in_a_pipe_a_table_is_plain_aligned_lines() -> None:
    """In a pipe there are no borders, colours or truncation, and an empty cell is a dash."""
    out = io.StringIO()
    output.table("Things", ("id", "what"), [("a", ""), ("long-id", "x" * 200)], out)

    assert out.getvalue() == f"ID       WHAT\na        -\nlong-id  {'x' * 200}\n"


def test_on_a_terminal_a_table_has_a_title_and_keeps_its_words() -> None:
    """Markup in a cell is printed literally."""
    out = Terminal()
    output.table("Things", ("id",), [("[red]a[/red]",)], out)

    assert "Things" in out.getvalue()
    assert "[red]a[/red]" in out.getvalue()


def test_fields_without_a_value_are_left_out() -> None:
    """Empty values are left out; zero is not empty."""
    out = io.StringIO()
    output.fields({"id": "a", "worker": None, "error": "", "retries": 0}, out)

    assert out.getvalue() == "id       a\nretries  0\n"


def test_progress_in_a_pipe_is_a_line_at_every_tenth() -> None:
    """Progress of 1,000 tasks in a pipe is ten lines, the last of which is complete."""
    out = io.StringIO()
    with output.progress("proved", 1000, out) as display:
        for count in range(1, 1001):
            display.done(count)

    lines = out.getvalue().splitlines()
    assert lines[0] == "proved: 100 of 1000"
    assert lines[-1] == "proved: 1000 of 1000"
    assert len(lines) == 10


def test_progress_on_a_terminal_ends_with_the_full_count() -> None:
    """The bar shows the count and the total, and lines are printed above it."""
    out = Terminal()
    with output.progress("proved", 2, out) as display:
        display.say("a word")
        display.done(2)

    assert "2/2" in out.getvalue()
    assert "a word" in out.getvalue()


def test_json_lines_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A value is printed on one line."""
    output.as_json_line({"a": [1, 2]})

    assert capsys.readouterr().out == '{"a": [1, 2]}\n'
