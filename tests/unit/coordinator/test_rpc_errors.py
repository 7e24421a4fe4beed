"""Which gRPC status each refusal is."""

import grpc
import pytest

from coordinator import errors as refusals
from coordinator.errors import CoordinatorError, InvalidRequest, Overloaded
from coordinator.raft import NotLeader, OutcomeUnknown
from coordinator.rpc.errors import status_of


def test_a_follower_names_the_leaders_address_in_text_and_metadata() -> None:
    """People read the one, programs the other."""
    status = status_of(NotLeader("coordinator-2"), lambda: "10.0.0.2:9090")
    assert status.code is grpc.StatusCode.FAILED_PRECONDITION
    assert status.details == "Not leader, connect to: 10.0.0.2:9090"
    assert status.metadata == (("zkp-leader", "10.0.0.2:9090"),)


def test_a_follower_that_knows_no_leader_names_none() -> None:
    """The metadata is absent, and the text still begins with the same words."""
    status = status_of(NotLeader(None), lambda: None)
    assert status.code is grpc.StatusCode.FAILED_PRECONDITION
    assert status.details.startswith("Not leader")
    assert status.metadata == ()


def test_an_unknown_outcome_says_what_to_do() -> None:
    """The caller's id makes asking again safe."""
    status = status_of(OutcomeUnknown("leadership lost"), lambda: None)
    assert status.code is grpc.StatusCode.UNAVAILABLE
    assert "same id again" in status.details


def test_fields_and_waiting_times_travel_as_metadata() -> None:
    """Programs need not parse sentences."""
    assert status_of(InvalidRequest("a.b", "wrong"), lambda: None).metadata == (("zkp-field", "a.b"),)
    assert status_of(Overloaded("full", 2.5), lambda: None).metadata == (("retry-after", "2.5"),)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(refusals).values()
        if isinstance(kind, type) and issubclass(kind, CoordinatorError) and kind is not CoordinatorError
    ],
)
def test_every_refusal_has_a_status_of_its_own(kind: type[CoordinatorError]) -> None:
    """None comes out as UNKNOWN."""
    error = (
        kind("words", 1)
        if kind is Overloaded
        else kind("field", "words")
        if kind is InvalidRequest
        else kind("words")
    )
    status = status_of(error, lambda: None)
    assert status.code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK)
    assert "words" in status.details
