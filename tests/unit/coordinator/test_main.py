"""The command line: what it prints and how it exits."""

from pathlib import Path

import pytest

from coordinator.__main__ import main


def test_a_missing_configuration_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Serving and checking say the same, without a traceback."""
    for arguments in (["--config", str(tmp_path / "none.yaml")], ["check", "--config", str(tmp_path / "none.yaml")]):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "none.yaml" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["check"], ["--nonsense"], ["chekc"], ["rejoin"], ["force-vote"]])
def test_wrong_use_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says how to get help."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "--help" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in ("check", "rejoin", "force-vote"))])
def test_help_begins_with_an_example(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing that a reader wants."""
    assert main(arguments) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[1] == "Example:"
    assert lines[2].startswith("coordinator ")
