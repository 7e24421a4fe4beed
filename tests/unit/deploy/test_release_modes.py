"""Which modes of an installed release the role release repairs, and that one repair is enough."""

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.programs import ROLES

_TASKS = yaml.safe_load((ROLES / "release/tasks/install.yml").read_text("utf-8"))
_WRONG = yaml.safe_load((ROLES / "release/vars/main.yml").read_text("utf-8"))["release_wrong_modes"]
_REPAIR = ("-exec", "chmod", "u=rwX,go=rX", "{}", "+")


def _found(tree: Path, *more: str) -> list[str]:
    """The paths below the tree whose modes are wrong."""
    command = ["find", str(tree), *shlex.split(_WRONG), *(more or ("-printf", "%P\n"))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o755, 0o555])
def test_what_every_account_can_read_is_left_alone(tree: Path, mode: int) -> None:
    """A file that every account can read, or run, and that root alone can change is not found."""
    file = tree / "file"
    file.touch()
    file.chmod(mode)
    (tree / "link").symlink_to("/nowhere")
    assert _found(tree) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o700, 0o750, 0o744, 0o664, 0o646, 0o777])
def test_what_some_account_cannot_read_or_may_change_is_found(tree: Path, mode: int) -> None:
    """A file as the umask 027, 077, 002 or 000 leaves it is found."""
    file = tree / "file"
    file.touch()
    file.chmod(mode)
    assert _found(tree) == ["file"]


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o744, 0o775])
def test_a_directory_is_found_too(tree: Path, mode: int) -> None:
    """A directory that some account cannot enter, or may change, is found."""
    (tree / "directory").mkdir()
    (tree / "directory").chmod(mode)
    assert _found(tree) == ["directory"]


def test_one_repair_is_enough(tree: Path) -> None:
    """After the task's own command nothing is found, whatever the mode of a file was."""
    (repair,) = [task for task in _TASKS if task["name"].startswith("Let every account")]
    assert " ".join(_REPAIR) in repair["ansible.builtin.command"]["cmd"]
    for mode in range(0o1000):
        file = tree / f"{mode:o}"
        file.touch()
        file.chmod(mode)
    assert _found(tree)

    _found(tree, *_REPAIR)

    assert _found(tree) == []
