"""Which migrations are to be applied, without a database."""

from pathlib import Path

import pytest

from coordinator.store.errors import DatabaseSchemaError
from coordinator.store.migrate import Applied, load_migrations, outstanding


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("SELECT 1")
    (tmp_path / "0002_second.sql").write_text("SELECT 2")
    (tmp_path / "notes.txt").write_text("not one of them")
    return tmp_path


def test_this_release_s_files_are_complete() -> None:
    """The bundled migrations are numbered from 1 without gaps, and start with the tables."""
    migrations = load_migrations()

    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    assert b"CREATE TABLE tasks" in migrations[0].sql


def test_files_are_read_in_the_order_of_their_numbers(directory: Path) -> None:
    """Other files are no migrations."""
    assert [(m.version, m.name, m.sql) for m in load_migrations(directory)] == [
        (1, "first", b"SELECT 1"),
        (2, "second", b"SELECT 2"),
    ]


@pytest.mark.parametrize("extra", ["0004_gap.sql", "0002_again.sql"])
def test_numbers_that_do_not_add_up_are_refused(directory: Path, extra: str) -> None:
    """A gap or a number given twice means a broken installation."""
    (directory / extra).write_text("SELECT 4")

    with pytest.raises(DatabaseSchemaError, match=r"000[23] is missing or duplicated"):
        load_migrations(directory)


def _applied(directory: Path) -> list[Applied]:
    return [Applied(m.version, m.name, m.sha256) for m in load_migrations(directory)]


def test_what_was_not_applied_is_outstanding(directory: Path) -> None:
    """Each file is applied once, in order."""
    known, applied = load_migrations(directory), _applied(directory)

    assert outstanding(known, []) == known
    assert outstanding(known, applied[:1]) == known[1:]
    assert not outstanding(known, applied)


def test_a_file_that_was_edited_after_it_was_applied_is_refused(directory: Path) -> None:
    """The message names the file."""
    applied = _applied(directory)
    (directory / "0001_first.sql").write_text("SELECT 'something else'")

    with pytest.raises(DatabaseSchemaError, match="0001_first has a different checksum"):
        outstanding(load_migrations(directory), applied)


def test_a_database_newer_than_the_code_is_refused(directory: Path) -> None:
    """An old release does not write into tables that it does not know."""
    known, applied = load_migrations(directory), _applied(directory)

    with pytest.raises(DatabaseSchemaError, match="version 2, and this release knows 1: run the newer release"):
        outstanding(known[:1], applied)
