"""Probes of the leader, and their log lines."""

import logging

import pytest

from gateway.leader_probe import LeaderProbe
from zkp.client.errors import ClientError, InvalidSubmission, NoLeader, Refused, ServerFault
from zkp.client.model import TaskPage


class FailingNetwork:
    """A network that answers every call with the same error."""

    def __init__(self, error: ClientError) -> None:
        self.error = error

    async def page(self, **_: object) -> TaskPage:
        raise self.error


def probe_of(network: FailingNetwork) -> LeaderProbe:
    """A `LeaderProbe` over it."""
    return LeaderProbe(network)  # type: ignore[arg-type]  # it asks for nothing else


def test_the_network_is_unreachable_before_the_first_probe() -> None:
    """A gateway that has just started is not ready."""
    assert not probe_of(FailingNetwork(InvalidSubmission("", "page_token"))).reachable


@pytest.mark.parametrize(
    ("error", "reachable"),
    [
        (InvalidSubmission("is none of ours", "page_token"), True),
        (ServerFault("INTERNAL"), True),
        (NoLeader("nobody", {}), False),
        (Refused("not this role"), False),
    ],
)
async def test_any_answer_of_a_serving_leader_counts(error: ClientError, reachable: bool) -> None:
    """Without a leader, or with one that refuses this gateway, the network is unreachable."""
    probe = probe_of(FailingNetwork(error))
    await probe.probe()
    assert probe.reachable is reachable


async def test_changes_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not at every probe."""
    lost, found = NoLeader("nobody", {}), InvalidSubmission("", "page_token")
    network = FailingNetwork(lost)
    probe = probe_of(network)
    with caplog.at_level(logging.INFO):
        for error in (lost, lost, found, found, lost):
            network.error = error
            await probe.probe()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
