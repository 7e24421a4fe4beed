"""The operator's guide: every command on its page, in the order of the page, as a shell runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pki.checks import audit
from pki.store.store import AuthorityStore

GUIDE = Path(__file__).parents[3] / "docs" / "pki.md"


def test_every_command_of_the_guide_works(tmp_path: Path) -> None:
    """None of them fails, unless the page says what to do then; the authority is whole at the end."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    place, programs = tmp_path / "place", tmp_path / "bin"
    place.mkdir()
    programs.mkdir()
    command = programs / "pki"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pki "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(GUIDE.parents[1])}
    script = "set -eu\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "go on\n" in done.stdout
    assert "hold it back\n" in done.stdout
    assert "not good by then\n" in done.stdout
    store = AuthorityStore.open(place / "ca")
    assert [ca.stem for ca in (*store.register.roots, store.register.signing)] == ["root-2", "issuer-3"]
    assert list(audit.faults(store, store.records()[-1].at)) == []
