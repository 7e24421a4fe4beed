"""The command line: one line for every mistake, and exit statuses that scripts can go by."""

from pathlib import Path

import pytest

from gateway.callers import ApiKeys
from gateway.cli import main as command


def test_a_new_key_comes_with_the_line_that_admits_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed works as it stands."""
    assert command(["new-api-key", "billing"]) == 0
    key, line = (text.split()[-1] for text in capsys.readouterr().out.splitlines())
    (tmp_path / "keys").write_text(f"{line}\n")
    assert ApiKeys.read(tmp_path / "keys").name_of(key) == "billing"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "--config: missing; give --config FILE"),
        (["check"], 2, "--config"),
        (["--config", "/missing.yaml", "check"], 1, "/missing.yaml: no such file"),
        (["serve"], 2, "serve"),
        (["--port", "1"], 2, "--port"),
        (["--config", "/missing.yaml"], 1, "/missing.yaml: no such file"),
        (["check", "--config", "/missing.yaml"], 1, "/missing.yaml: no such file"),
        (["new-api-key", "Billing!"], 1, "name 'Billing!'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with status 2 for wrong use and 1 for what went wrong."""
    assert command(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["new-api-key", "--help"]])
def test_help_shows_an_example_first(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Before the options."""
    assert command(arguments) == 0
    shown = capsys.readouterr().out
    assert 0 < shown.index("Example: gateway ") < shown.index("Options")
