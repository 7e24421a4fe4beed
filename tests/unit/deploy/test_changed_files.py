"""What a host has is held against what it should have: whatever is not just so is named, and nothing else."""

import grp
import json
import os
import pwd
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.programs import program

changed_files = program("common", "changed_files")
ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """A file, a directory and a link that are just as they should be."""
    file, directory, link = tmp_path / "file", tmp_path / "directory", tmp_path / "link"
    file.write_text("grün\n", "utf-8")
    file.chmod(0o640)
    directory.mkdir()
    directory.chmod(0o755)
    link.symlink_to("directory")
    return {
        "file": {"path": str(file), "content": "grün\n", "mode": "0640", **ME},
        "directory": {"path": str(directory), "directory": True, **ME},
        "link": {"path": str(link), "link": "directory"},
    }


def test_good(wanted: dict[str, dict[str, Any]]) -> None:
    """What is just so is not named."""
    assert not any(changed_files.differs(each) for each in wanted.values())


@pytest.mark.parametrize(
    ("which", "change"),
    [
        ("file", {"content": "blau\n"}),
        ("file", {"mode": "0600"}),
        ("file", {"group": "nobody-has-this-name"}),
        ("directory", {"mode": "0700"}),
        ("link", {"link": "elsewhere"}),
    ],
)
def test_change(wanted: dict[str, dict[str, Any]], which: str, change: dict[str, str]) -> None:
    """Another content, mode, owner or target differs."""
    assert changed_files.differs(wanted[which] | change)


@pytest.mark.parametrize("which", ["file", "directory", "link"])
def test_missing(wanted: dict[str, dict[str, Any]], which: str) -> None:
    """What is not there differs."""
    path = Path(wanted[which]["path"])
    path.rmdir() if which == "directory" else path.unlink()
    assert changed_files.differs(wanted[which])


def test_link_instead_of_a_file(wanted: dict[str, dict[str, Any]]) -> None:
    """A link is no file, whatever it leads to."""
    path = Path(wanted["file"]["path"])
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    assert changed_files.differs(wanted["file"])


def test_program(
    wanted: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wanted go in as JSON, the paths of those that differ come out as JSON."""
    asked = [wanted["file"], wanted["directory"] | {"mode": "0711"}]
    monkeypatch.setattr("sys.stdin", StringIO(json.dumps(asked)))
    changed_files.main()
    assert json.loads(capsys.readouterr().out) == [wanted["directory"]["path"]]
