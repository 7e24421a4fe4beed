"""Ledger: each line depends on the previous one, and a crash loses no completed operation."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority
from pki.errors import StoreError
from pki.store.ledger import Ledger, LedgerEvent, LedgerRecord
from pki.x509.identity import Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AUTHORITY = Authority.create("zkp.local", now=NOW)
RECORDS = [
    LedgerRecord(LedgerEvent.CREATED, NOW, "ann@ca", AUTHORITY.roots[0]),
    LedgerRecord(LedgerEvent.CREATED, NOW, "ann@ca", AUTHORITY.issuer.certificate),
    *(
        LedgerRecord(
            LedgerEvent.ISSUED,
            NOW,
            "bob@ca",
            AUTHORITY.issue(name, Role.WORKER, ["127.0.0.1"], now=NOW).certificate,
        )
        for name in ("worker-1", "worker-2", "worker-3")
    ),
]
DATA = Ledger().lines(RECORDS)
_DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=60)


def test_what_was_written_is_read() -> None:
    """Reading gives back the records, in order."""
    ledger = Ledger.read(DATA)
    assert list(ledger.records) == RECORDS
    assert ledger.size == len(DATA)


def test_lines_can_be_added_in_any_number_of_steps() -> None:
    """Adding one by one writes the same bytes as adding all at once."""
    data = b""
    for record in RECORDS:
        data += Ledger.read(data).lines([record])
    assert data == DATA


@_DETERMINISTIC
@given(st.integers(0, len(DATA)))
def test_a_crash_in_a_write_loses_only_the_torn_line(length: int) -> None:
    """However much of a write reached the disk: whole lines are read, the next goes behind them."""
    torn = DATA[:length]
    ledger = Ledger.read(torn)
    whole = torn.count(b"\n")
    assert list(ledger.records) == RECORDS[:whole]
    assert torn[: ledger.size] + ledger.lines(RECORDS[whole:]) == DATA


@_DETERMINISTIC
@given(st.integers(0, DATA[:-1].rindex(b"\n")), st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    """No line that another stands on can be altered unnoticed."""
    altered = bytearray(DATA)
    altered[place] ^= change
    with pytest.raises(StoreError, match=r"ledger, line \d+: damaged or altered"):
        Ledger.read(bytes(altered))


def test_a_missing_or_swapped_line_is_found() -> None:
    """Lines can be neither taken out nor put in another order."""
    lines = DATA.splitlines(keepends=True)
    for damaged in (lines[1:], lines[:2] + lines[3:], [lines[0], lines[2], lines[1], *lines[3:]]):
        with pytest.raises(StoreError, match="does not follow the line before"):
            Ledger.read(b"".join(damaged))


def test_a_line_speaks_an_operators_words() -> None:
    """Programs like jq find name, role, hosts, serial and dates without parsing certificates."""
    line = json.loads(DATA.splitlines()[2])
    assert line["event"] == "issued"
    assert (line["name"], line["role"]) == ("worker-1", "worker")
    assert line["hosts"] == ["127.0.0.1", "worker-1.zkp.local"]
    assert line["by"] == "bob@ca"
    assert int(line["serial"], 16) == RECORDS[2].certificate.serial_number


def test_a_ca_names_nobody() -> None:
    """The records of root and issuing CA carry a subject and no identity."""
    assert RECORDS[0].identity is None
    assert RECORDS[0].hosts == ()
    assert str(RECORDS[0].to_json()["subject"]).startswith("CN=root CA")
