"""Whom a search asks next."""

import pytest

from tests.unit.client.network import A, B, C
from zkp.client.errors import InvalidAddress
from zkp.client.leader_search import LeaderSearch, grpc_target, parse_address

D = "10.0.0.4:9090"


def rest(itinerary: LeaderSearch) -> list[str]:
    """The addresses until the round is over."""
    return list(iter(itinerary.next, None))


def begun(*, leader: str | None = None, start: int = 0) -> LeaderSearch:
    itinerary = LeaderSearch((A, B, C), start=start)
    itinerary.begin_round(leader)
    return itinerary


def test_a_round_asks_everybody_once() -> None:
    """Without any knowledge the configured order is followed."""
    assert rest(begun()) == [A, B, C]


def test_the_start_rotates_the_order() -> None:
    """Clients with different starts ask different coordinators first."""
    assert rest(begun(start=4)) == [B, C, A]


def test_the_known_leader_is_asked_first() -> None:
    """Whoever led last is the best guess, and is asked only once."""
    assert rest(begun(leader=C)) == [C, A, B]


def test_a_redirect_jumps_the_queue() -> None:
    """The named leader is asked next, also when nobody configured its address."""
    itinerary = begun()
    assert itinerary.next() == A
    itinerary.not_leader(A, D)
    assert rest(itinerary) == [D, B, C]


def test_a_dead_leader_is_not_asked_twice_in_a_round() -> None:
    """Followers name a leader that died until they have another: that must not become a loop."""
    itinerary = begun(leader=C)
    assert itinerary.next() == C
    itinerary.failed(C, "connection refused")
    assert itinerary.next() == A
    itinerary.not_leader(A, C)
    assert rest(itinerary) == [B]


@pytest.mark.parametrize(
    "address", ["unix:/tmp/socket", "dns:///evil:1", "10.0.0.1", "", "a b:1", "x:0", "x:70000", "[::::]:1"]
)
def test_a_redirect_that_is_no_address_is_ignored(address: str) -> None:
    """Only HOST:PORT is followed: no other scheme of gRPC's, no malformed text."""
    itinerary = begun()
    itinerary.next()
    itinerary.not_leader(A, address)
    assert rest(itinerary) == [B, C]


def test_a_search_is_hopeless_only_when_everybody_asked_is() -> None:
    """One node with a bad certificate does not end the search among the others."""
    itinerary = begun()
    for address in rest(itinerary)[:2]:
        itinerary.failed(address, "certificate refused", hopeless=True)
    assert not itinerary.hopeless
    itinerary.failed(C, "certificate refused", hopeless=True)
    assert itinerary.hopeless


def test_a_new_round_forgets_what_was_hopeless() -> None:
    """Certificates may have been renewed since."""
    itinerary = begun()
    for address in rest(itinerary):
        itinerary.failed(address, "certificate refused", hopeless=True)
    itinerary.begin_round(None)
    assert not itinerary.hopeless
    assert rest(itinerary) == [A, B, C]


def test_answers_say_what_came_of_each() -> None:
    """The material of the error message names every address with its last answer."""
    itinerary = begun()
    rest(itinerary)
    itinerary.not_leader(A, None)
    itinerary.not_leader(B, A)
    itinerary.failed(C, "connection refused")
    assert dict(itinerary.answers) == {
        A: "not the leader; it names none",
        B: f"not the leader; it names {A}",
        C: "connection refused",
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1:9090", ("10.0.0.1", 9090)),
        ("coordinator-1.zkp.local:1", ("coordinator-1.zkp.local", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[FD00:5:0:0::0011]:9090", ("fd00:5::11", 9090)),
    ],
)
def test_addresses_are_split(text: str, parts: tuple[str, int]) -> None:
    """Names, IPv4 and bracketed IPv6 are understood."""
    assert parse_address(text) == parts


def test_grpc_is_given_the_shortest_spelling() -> None:
    """It compares the text of an IPv6 address with that of the certificate's, and refuses any other spelling."""
    assert grpc_target("[FD00:5:0:0::0011]:9090") == "[fd00:5::11]:9090"
    assert grpc_target("10.0.0.1:9090") == "10.0.0.1:9090"


def test_a_refused_address_is_named() -> None:
    """The message shows the text and how a right one looks."""
    with pytest.raises(InvalidAddress, match=r"'::1:9090': write HOST:PORT"):
        parse_address("::1:9090")
