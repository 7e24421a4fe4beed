"""coordinator/raft/DESIGN.md names a test for each fault that is answered: they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "coordinator" / "raft" / "DESIGN.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(test_\w+)`", DOCUMENT))


def test_every_test_that_the_design_names_exists() -> None:
    """Under that very name, somewhere among the tests."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    known = set(re.findall(r"^(?:async )?def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
    assert not NAMED - known
    assert len(NAMED) > 60


def test_every_file_of_the_room_is_explained() -> None:
    """Each has its row, but for what explains itself; and each row has its file."""
    rows = re.findall(r"^\| (`[\w/]+\.py`(?:, `[\w/]+\.py`)*) \|", DOCUMENT, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)}
    package = ROOT / "coordinator" / "raft"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert files - {"errors.py"} == listed
