"""docs/operations.md: every command on its page, in its order, in the circumstances that it is meant for."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster.network import eventually
from zkp.localcluster import postgres
from zkp.localcluster.process import kill_orphans, orphans

CHECKOUT = Path(__file__).parents[3]
PAGE = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
_PATIENCE_S = 600
_SAMPLE_REVISION = "revision=33"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt install curl")

# `zkp status` also says by its exit status what it sees, which is trouble, often, on this page.
PRELUDE = """set -eu
zkp() { command zkp "$@" || [ "$1" = status ]; }
"""


def sections() -> dict[str, str]:
    """Heading → the commands below it; those of the introduction are under the empty heading."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    texts = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    return {
        heading: "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        for heading, text in texts.items()
        if "```sh" in text
    }


COMMANDS = sections()


class Place:
    """A checkout, as far as the page needs one, with a cluster of its own in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        programs = root / ".venv" / "bin"
        programs.mkdir(parents=True)
        python = f'"{sys.executable}" -m'
        for name, command in (
            ("zkp", f"{python} zkp.cli"),
            ("coordinator", f"{python} coordinator"),
            ("psql", f'"{postgres.program("psql")}"'),  # an operator has PostgreSQL's client; this machine may not
        ):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not re.match("ZKP_|COORDINATOR_|WORKER_", name)}
        self._environment = kept | {
            "PYTHONPATH": str(CHECKOUT),
            "COORDINATOR_RAFT_HEARTBEAT": "100ms",
            "COORDINATOR_RAFT_ELECTION_TIMEOUT": "1s",
        }

    def run(self, commands: str) -> str:
        """What they print; fails with what they say when one of them fails."""
        script = f"{PRELUDE}{COMMANDS['']}\n{commands}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def health(self, member: str) -> dict[str, dict[str, str]]:
        """What /health of a coordinator says; empty while it does not answer."""
        said = self.run(f"health {member} || true")
        found: dict[str, dict[str, str]] = json.loads(said) if said else {}
        return found

    def database(self) -> dict[str, str]:
        """What the leader says of the record."""
        found = [self.health(f"coordinator-{number}").get("database", {}) for number in (1, 2, 3)]
        return next((one for one in found if one.get("status", "unknown") != "unknown"), {})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("operations"))
    try:
        made.run("zkp local up")
        yield made
    finally:
        kill_orphans(made.root / ".zkp")
        assert orphans(made.root / ".zkp") == []


def damage_a_node(place: Place) -> None:
    """One byte of coordinator-1's vote."""
    place.run('kill "$(pid coordinator-1)"; while [ "$(pid coordinator-1)" != None ]; do sleep 0.1; done')
    vote = place.root / ".zkp" / "data" / "coordinator-1" / "vote"
    vote.write_bytes(b"!" + vote.read_bytes()[1:])
    place.run("! zkp local up")


def restore_an_old_backup(place: Place) -> None:
    """Of PostgreSQL, from before a task that it recorded since."""
    postgres, backup = place.root / ".zkp" / "postgres", place.root / "backup"
    place.run("zkp local down")
    subprocess.run(["cp", "-a", postgres, backup], check=True)
    place.run("zkp local up; zkp submit addition --a 1 --b 2 --wait")
    eventually("everything recorded", lambda: place.database().get("status") == "ok")
    place.run("zkp local down")
    shutil.rmtree(postgres)
    subprocess.run(["cp", "-a", backup, postgres], check=True)
    place.run("zkp local up")
    eventually("a refused record", lambda: place.database().get("status") == "stopped")


BEFORE = {
    "A node refuses its files": damage_a_node,
    "PostgreSQL lost data, or was restored from a backup": restore_an_old_backup,
}


@pytest.mark.parametrize("heading", [heading for heading in COMMANDS if heading])
def test_every_command_of_the_page_does_what_it_says(place: Place, heading: str) -> None:
    """Afterwards every node votes, a task is proved, and the record is kept."""
    BEFORE.get(heading, lambda _: None)(place)
    commands = COMMANDS[heading]
    if _SAMPLE_REVISION in commands:
        held = re.search(r"and was at (\d+)", place.database()["error"])
        assert held is not None
        commands = commands.replace(_SAMPLE_REVISION, f"revision={held[1]}")
    place.run(commands)
    for number in (1, 2, 3):
        name = f"coordinator-{number}"
        eventually(f"{name} votes", lambda name=name: "member of" in str(place.health(name).get("raft")))  # type: ignore[misc]
    assert "completed" in place.run("zkp submit addition --a 20 --b 22 --wait")
    if heading != "All nodes lost their disks":
        eventually("the record is kept", lambda: place.database().get("status") == "ok")


def test_circumstances_are_those_of_the_page() -> None:
    """None is made for a section that is there no more."""
    assert BEFORE.keys() <= COMMANDS.keys()
