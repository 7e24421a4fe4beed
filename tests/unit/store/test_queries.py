"""The statements' file."""

import re
from pathlib import Path

import pytest

from coordinator import store
from coordinator.store.queries import QUERIES, parse

ROOM = Path(store.__file__).parent


def test_blocks_are_found_by_name_without_their_comments() -> None:
    """A block is what stands between its name and the next."""
    parsed = parse("-- about\n\n-- name: one\n-- Says why.\nSELECT 1\n\n-- name: two\nSELECT\n    2\n")

    assert dict(parsed) == {"one": b"SELECT 1", "two": b"SELECT\n    2"}


def test_a_name_given_twice_is_refused() -> None:
    """Otherwise the second would silently win."""
    with pytest.raises(ValueError, match="one is duplicated"):
        parse("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


def test_every_statement_is_described_and_used() -> None:
    """Each block says what it is for, and some module asks for it."""
    text = (ROOM / "queries.sql").read_text(encoding="utf-8")
    described = re.findall(r"^-- name: (\w+)\n-- \S", text, re.MULTILINE)
    code = "".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))

    assert sorted(described) == sorted(QUERIES)
    assert set(re.findall(r'QUERIES\["(\w+)"\]', code)) == set(QUERIES)


def test_sql_and_psycopg_are_in_this_room_alone() -> None:
    """No other module of the coordinator or its siblings imports psycopg."""
    root = ROOM.parent.parent
    rooms = ("coordinator", "gateway", "pki", "worker", "zkp")
    importers = {
        path.relative_to(root).as_posix()
        for room in rooms
        for path in (root / room).rglob("*.py")
        if re.search(r"^\s*(import|from) psycopg", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert {path for path in importers if not path.startswith("coordinator/store/")} == set()
