"""Runs parts of the roles on this machine alone: what they ask of an inventory needs no host."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[3]
ANSIBLE = PROJECT / "ansible"
PROGRAM = str(Path(sys.executable).parent / "ansible-playbook")


def play(playbook: Path | str, inventory: Path | str, place: Path, *options: str) -> tuple[int, str]:
    """The exit status and everything that was said."""
    done = subprocess.run(
        [PROGRAM, "-i", str(inventory), str(playbook), *options],
        cwd=ANSIBLE,
        env=os.environ
        | {
            "ANSIBLE_LOCAL_TEMP": str(place / ".local"),
            "ANSIBLE_HOME": str(place / ".home"),
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "1000",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def inventory(place: Path, hosts: dict[str, dict[str, Any]], **groups: list[str]) -> Path:
    """An inventory's directory, with the links to what all share."""
    directory = place / "inventory"
    directory.mkdir()
    for link, shared in (
        ("00-shared.yml", "shared.yml"),
        ("01-shared-infrastructure.yml", "shared-infrastructure.yml"),
    ):
        (directory / link).symlink_to(ANSIBLE / "inventories" / shared)
    document = {"all": {"hosts": hosts}} | {
        group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump(document), "utf-8")
    return directory


def part(place: Path, role: str, tasks: str) -> Path:
    """A playbook that runs one task file of a role, on this machine, for every host."""
    path = place / "part.yml"
    plays = [
        {
            "hosts": "all",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable, "zkp_controller_bin": str(Path(PROGRAM).parent)},
            "tasks": [{"ansible.builtin.include_role": {"name": role, "tasks_from": tasks}}],
        }
    ]
    path.write_text(yaml.safe_dump(plays), "utf-8")
    return path
