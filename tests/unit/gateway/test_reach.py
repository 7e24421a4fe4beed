"""Whether the proving network can be reached, and what of that is logged."""

import logging

import pytest

from gateway.leader_probe import LeaderProbe
from zkp.client.errors import ClientError, InvalidSubmission, NoLeader, Refused, ServerFault
from zkp.client.model import TaskPage


class Answering:
    """A network that answers every question with the same error."""

    def __init__(self, error: ClientError) -> None:
        self.error = error

    async def page(self, **_: object) -> TaskPage:
        raise self.error


def reach(network: Answering) -> LeaderProbe:
    """A `LeaderProbe` over it."""
    return LeaderProbe(network)  # type: ignore[arg-type]  # it asks for nothing else


def test_nothing_is_claimed_before_the_first_answer() -> None:
    """A gateway that has just started is not ready."""
    assert not reach(Answering(InvalidSubmission("", "page_token"))).reachable


@pytest.mark.parametrize(
    ("error", "reachable"),
    [
        (InvalidSubmission("is none of ours", "page_token"), True),
        (ServerFault("INTERNAL"), True),
        (NoLeader("nobody", {}), False),
        (Refused("not this role"), False),
    ],
)
async def test_any_answer_of_a_leader_that_serves_us_counts(error: ClientError, reachable: bool) -> None:
    """No leader, or one that refuses this gateway, is as good as none."""
    looking = reach(Answering(error))
    await looking.look()
    assert looking.reachable is reachable


async def test_changes_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not every few seconds."""
    lost, found = NoLeader("nobody", {}), InvalidSubmission("", "page_token")
    network = Answering(lost)
    looking = reach(network)
    with caplog.at_level(logging.INFO):
        for error in (lost, lost, found, found, lost):
            network.error = error
            await looking.look()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
