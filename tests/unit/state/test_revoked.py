"""How many revoked certificates are remembered, and for how long."""

import pytest

from coordinator.state import machine
from coordinator.state.commands import RevokeCertificate
from coordinator.state.machine import State
from coordinator.state.model import RefusalCode


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> State:
    """A state with as many as it may remember: two that expire at 5,000 and 6,000."""
    monkeypatch.setattr(machine, "MAX_REVOKED", 2)
    state = State()
    for serial, not_after_ms in (("a1", 5_000), ("b2", 6_000)):
        assert state.apply(RevokeCertificate(serial, "", "", not_after_ms), 1_000, 1).refusal is None
    return state


def test_their_number_is_bounded(full: State) -> None:
    """One more is refused, and nothing is forgotten for it: a revoked certificate must not come back."""
    outcome = full.apply(RevokeCertificate("c3", "", "", 9_000), 5_000, 1)

    assert outcome.refusal is not None
    assert outcome.refusal.code is RefusalCode.NOT_ALLOWED
    assert list(full.revoked) == ["a1", "b2"]
    assert full.apply(RevokeCertificate("a1", "", "", 9_000), 5_000, 1).duplicate


def test_what_has_expired_makes_room(full: State) -> None:
    """Nobody accepts an expired certificate anyway."""
    outcome = full.apply(RevokeCertificate("c3", "", "", 9_000), 5_001, 1)

    assert outcome.refusal is None
    assert list(full.revoked) == ["b2", "c3"]
