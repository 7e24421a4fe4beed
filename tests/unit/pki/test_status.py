"""Expiry: levels, order, commands, and what monitoring alerts on."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pki.checks.expiry import Level, Row, expiry_rows
from pki.errors import PkiError
from pki.store import rotation
from pki.store.store import AuthorityStore
from pki.timespans import day, parse_span, parse_time, remaining
from pki.x509.crl import Reason
from tests.unit.pki.stores import BY, NOW, OTHER, PLAIN, WORKER, new_store

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority with worker-1."""
    store = new_store(tmp_path / "ca")
    store.issue([WORKER], tmp_path / "out", now=NOW, by=BY)
    return store


def _row(store: AuthorityStore, name: str, now: datetime, within: timedelta | None = None) -> Row:
    [row] = [row for row in expiry_rows(store, now, within) if row.name == name]
    return row


def test_a_fresh_authority_has_nothing_to_do(store: AuthorityStore) -> None:
    """CAs, lists and leaves are all there, sorted by what expires first, and need no command."""
    rows = expiry_rows(store, NOW)
    assert [row.name for row in rows] == ["of issuer", "worker-1", "issuer", "of root", "root"]
    assert [row.not_after for row in rows] == sorted(row.not_after for row in rows)
    assert {row.level for row in rows} == {Level.OK}
    assert {row.cure for row in rows} == {""}


@pytest.mark.parametrize(
    ("name", "after", "level", "cure"),
    [
        ("worker-1", 17 * DAY, Level.OK, ""),
        ("worker-1", 21 * DAY, Level.DUE, "pki renew worker-1"),
        ("worker-1", 23 * DAY, Level.LATE, "pki renew worker-1"),
        ("worker-1", 30 * DAY, Level.EXPIRED, "pki renew worker-1"),
        ("of issuer", 19 * DAY, Level.OK, ""),
        ("of issuer", 21 * DAY, Level.DUE, "pki crl"),
        ("of issuer", 23 * DAY, Level.LATE, "pki crl"),
        ("issuer", 270 * DAY, Level.OK, ""),
        ("issuer", 280 * DAY, Level.DUE, "pki rotate-issuer"),
        ("issuer", 310 * DAY, Level.LATE, "pki rotate-issuer"),
        ("of root", 300 * DAY, Level.OK, ""),
        ("of root", 400 * DAY, Level.LATE, "pki rotate-issuer"),
        ("root", 3000 * DAY, Level.OK, ""),
        ("root", 3150 * DAY, Level.DUE, "pki rotate-root"),
        ("root", 3300 * DAY, Level.LATE, "pki rotate-root"),
    ],
)
def test_levels_come_in_time(store: AuthorityStore, name: str, after: timedelta, level: Level, cure: str) -> None:
    """Due at the usual time of renewal, late while there is still time to act, and the command is named."""
    row = _row(store, name, NOW + after)
    assert row.level is level
    assert row.cure.startswith(cure)
    assert row.is_alarming is (level in (Level.LATE, Level.EXPIRED))


def test_the_threshold_can_be_given(store: AuthorityStore) -> None:
    """With a span of one's own, whatever expires within it is late."""
    assert _row(store, "worker-1", NOW, 31 * DAY).level is Level.LATE
    assert _row(store, "worker-1", NOW + 23 * DAY, DAY).level is Level.DUE


def test_who_is_gone_is_not_waited_for(store: AuthorityStore, tmp_path: Path) -> None:
    """A revoked member and a superseded certificate are no rows."""
    store.issue([OTHER], tmp_path / "out", now=NOW, by=BY)
    store.renew(["worker-1"], tmp_path / "out", now=NOW + DAY, by=BY)
    store.revoke(store.find("worker-2", NOW), Reason.UNSPECIFIED, now=NOW, by=BY)
    assert _row(store, "worker-1", NOW).not_after == NOW + 31 * DAY
    assert "worker-2" not in [row.name for row in expiry_rows(store, NOW)]


def test_a_rotation_shows(store: AuthorityStore) -> None:
    """Whoever still has a leaf of the old CA is due, and so is its retirement."""
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    assert _row(store, "issuer-2", NOW).level is Level.OK
    rotation.switch(store, now=NOW, by=BY)
    assert _row(store, "worker-1", NOW).level is Level.DUE
    assert _row(store, "issuer", NOW).level is Level.DUE
    assert "--finish" in _row(store, "issuer", NOW).cure


def test_a_lost_or_old_list_is_late(store: AuthorityStore) -> None:
    """A list that lacks a revocation, or is not there, needs a new one at once."""
    path = store.directory.path / "issuer.crl"
    before = path.read_bytes()
    store.revoke(store.find("worker-1", NOW), Reason.UNSPECIFIED, now=NOW, by=BY)
    path.write_bytes(before)
    assert _row(AuthorityStore.open(store.directory.path), "of issuer", NOW).level is Level.LATE
    path.unlink()
    assert _row(AuthorityStore.open(store.directory.path), "of issuer", NOW).level is Level.LATE


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("+30d", NOW + 30 * DAY),
        ("+2w", NOW + 14 * DAY),
        ("+90m", NOW + timedelta(minutes=90)),
        ("2026-07-01", datetime(2026, 7, 1, tzinfo=NOW.tzinfo)),
        ("2026-07-01T12:00+02:00", datetime(2026, 7, 1, 10, tzinfo=NOW.tzinfo)),
        ("2026-07-01T12:00Z", datetime(2026, 7, 1, 12, tzinfo=NOW.tzinfo)),
    ],
)
def test_moments_are_read_as_written(text: str, moment: datetime) -> None:
    """From now, or a date in UTC unless it says otherwise."""
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "30d", "+30", "+30y", "soon", "2026-13-01", "+999999w"])
def test_other_moments_are_refused(text: str) -> None:
    """With an example of how to write them."""
    with pytest.raises(PkiError, match=r"like \+30d"):
        parse_time(text, NOW)
    with pytest.raises(PkiError, match="like 30d"):
        parse_span("30")


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (30 * DAY, "30 d"),
        (DAY, "1 d"),
        (timedelta(hours=23, minutes=59), "23 h"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(seconds=3), "3 s"),
        (-3 * DAY, "-3 d"),
    ],
)
def test_spans_are_shown_in_their_largest_unit(span: timedelta, text: str) -> None:
    """Short enough for a table, and what is over shows a minus."""
    assert remaining(span) == text
    assert day(NOW) == "2026-06-01 12:00"
