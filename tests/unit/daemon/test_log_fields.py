"""What the program logs beside the words."""

import ast
from collections.abc import Iterator
from pathlib import Path

from zkp.daemon.logs import FIELDS

ROOT = Path(__file__).parents[3]
ROOMS = ("coordinator", "gateway", "pki", "worker", "zkp")


def literal_fields(path: Path) -> Iterator[str]:
    """The keys of every `extra={…}` in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
            yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))


def test_no_field_is_dropped_on_the_way_to_the_log() -> None:
    """Every key that a call gives in `extra` is one of those that are kept: no reason gets lost."""
    used = {
        (str(path.relative_to(ROOT)), field)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for field in literal_fields(path)
    }

    assert used
    assert {(path, field) for path, field in used if field not in FIELDS} == set()
