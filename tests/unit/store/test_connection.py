"""What is said about the database, and what is not."""

import psycopg
import pytest

from coordinator.store.connection import Database, describe

PARAMETERS = {"host": "db.example", "port": "5432", "dbname": "zkp", "user": "zkp", "password": "hunter2"}


def test_a_database_shows_its_place_and_no_secret() -> None:
    """Neither text form of it holds the password."""
    database = Database(PARAMETERS, application="coordinator-1")

    assert database.location == "zkp at db.example:5432"
    assert "hunter2" not in f"{database!r} {database}"


def test_an_ipv6_address_is_told_from_its_port() -> None:
    """It is in brackets, as in every other message."""
    assert Database({**PARAMETERS, "host": "fd00:5::11"}, application="c").location == "zkp at [fd00:5::11]:5432"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            psycopg.OperationalError("connection failed:\n\tIs the server\n  running?"),
            "connection failed: Is the server running?",
        ),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_errors_are_described_in_one_line(error: Exception, line: str) -> None:
    """For logs and health reports."""
    assert describe(error) == line
