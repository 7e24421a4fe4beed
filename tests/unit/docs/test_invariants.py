"""Every test named in docs/invariants.md exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "invariants.md"
ROWS = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
REFERENCE = re.compile(r"`(tests/[\w/.-]+)(?:::(\w+))?`")


def functions_of(path: Path) -> set[str]:
    """Return the names of the test functions in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:60] for row in ROWS])
def test_every_invariant_names_tests_that_exist(row: str) -> None:
    """Each row has at least one reference, and each reference leads to a test or a scenario."""
    references = REFERENCE.findall(row)

    assert references
    for path, name in references:
        file = ROOT / path
        assert file.is_file(), path
        if path.endswith(".py"):
            assert name in functions_of(file), f"{path}::{name}"


def test_the_table_is_parsed() -> None:
    """A change of the table's layout does not hide its rows from this module."""
    assert len(ROWS) > 30
    assert len(REFERENCE.findall(DOCUMENT.read_text(encoding="utf-8"))) > 70
