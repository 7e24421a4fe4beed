"""The order in which a leader search tries addresses."""

import pytest

from tests.unit.client.network import A, B, C
from zkp.client.errors import InvalidAddress
from zkp.client.leader_search import LeaderSearch, grpc_target, parse_address

D = "10.0.0.4:9090"


def rest(search: LeaderSearch) -> list[str]:
    """Return the remaining addresses of the round."""
    return list(iter(search.next, None))


def begun(*, leader: str | None = None, start: int = 0) -> LeaderSearch:
    search = LeaderSearch((A, B, C), start=start)
    search.begin_round(leader)
    return search


def test_a_round_tries_every_address_once() -> None:
    """Without a known leader, addresses are tried in the configured order."""
    assert rest(begun()) == [A, B, C]


def test_the_start_rotates_the_order() -> None:
    """Clients with different start indices try different coordinators first."""
    assert rest(begun(start=4)) == [B, C, A]


def test_the_known_leader_is_asked_first() -> None:
    """The last known leader is tried first, and only once."""
    assert rest(begun(leader=C)) == [C, A, B]


def test_a_redirect_jumps_the_queue() -> None:
    """The named leader is tried next, even if its address is not configured."""
    search = begun()
    assert search.next() == A
    search.not_leader(A, D)
    assert rest(search) == [D, B, C]


def test_a_dead_leader_is_not_asked_twice_in_a_round() -> None:
    """Followers name a dead leader until they have elected another, which must not cause a loop."""
    search = begun(leader=C)
    assert search.next() == C
    search.failed(C, "connection refused")
    assert search.next() == A
    search.not_leader(A, C)
    assert rest(search) == [B]


@pytest.mark.parametrize(
    "address", ["unix:/tmp/socket", "dns:///evil:1", "10.0.0.1", "", "a b:1", "x:0", "x:70000", "[::::]:1"]
)
def test_a_redirect_that_is_no_address_is_ignored(address: str) -> None:
    """Other target schemes of gRPC and malformed addresses are ignored."""
    search = begun()
    search.next()
    search.not_leader(A, address)
    assert rest(search) == [B, C]


def test_a_search_fails_permanently_only_if_every_address_does() -> None:
    """One node with an invalid certificate does not end the search."""
    search = begun()
    for address in rest(search)[:2]:
        search.failed(address, "certificate refused", permanent=True)
    assert not search.permanent
    search.failed(C, "certificate refused", permanent=True)
    assert search.permanent


def test_a_new_round_forgets_what_was_permanent() -> None:
    """Certificates may have been renewed since."""
    search = begun()
    for address in rest(search):
        search.failed(address, "certificate refused", permanent=True)
    search.begin_round(None)
    assert not search.permanent
    assert rest(search) == [A, B, C]


def test_answers_say_what_came_of_each() -> None:
    """Each address is listed with its last result."""
    search = begun()
    rest(search)
    search.not_leader(A, None)
    search.not_leader(B, A)
    search.failed(C, "connection refused")
    assert dict(search.answers) == {
        A: "not the leader; leader unknown",
        B: f"not the leader; leader is {A}",
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
    """Host names, IPv4 and bracketed IPv6 addresses are parsed."""
    assert parse_address(text) == parts


def test_grpc_is_given_the_shortest_spelling() -> None:
    """gRPC compares an IPv6 address with the certificate as text and rejects other forms."""
    assert grpc_target("[FD00:5:0:0::0011]:9090") == "[fd00:5::11]:9090"
    assert grpc_target("10.0.0.1:9090") == "10.0.0.1:9090"


def test_a_refused_address_is_named() -> None:
    """The error quotes the address and shows a valid one."""
    with pytest.raises(InvalidAddress, match=r"'::1:9090': is not HOST:PORT"):
        parse_address("::1:9090")
