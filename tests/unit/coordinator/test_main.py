"""The command line: what it prints and how it exits."""

from pathlib import Path

import pytest
import yaml

from coordinator.cli import main
from tests.unit.coordinator.test_config import PASSWORD, make_site
from tests.unit.proofs.test_keystore import write_forgeable
from tests.unit.proofs.test_verifying_key import FORGEABLE


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


def test_a_key_with_which_proofs_can_be_forged_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checking finds it before the coordinator starts, and names the key's file."""
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    site = make_site(tmp_path)
    site.path.write_text(yaml.safe_dump(site.document))
    assert main(["check", "--config", str(site.path)]) == 0
    capsys.readouterr()
    path = write_forgeable(tmp_path / "keys", FORGEABLE["no contribution"][0])
    assert main(["check", "--config", str(site.path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: not a usable verifying key: vk_delta_2")
    assert error.count("\n") == 1
