"""Places for connections: who gets one, who has to go, and who is never displaced."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zkp.daemon.admission import NoPlaceError, Places, source_of


def test_a_newcomer_displaces_the_longest_idle_of_the_source_that_has_most() -> None:
    """A flood from one source displaces its own connections, oldest first, and those of no other."""
    places: Places[str] = Places(total=4, per_holder=4)
    assert places.take("quiet", "10.0.0.1", 0.0) is None
    for number in range(3):
        assert places.take(f"flood-{number}", "10.9.9.9", 1.0 + number) is None
    assert [places.take(f"more-{number}", "10.9.9.9", 5.0) for number in range(4)] == [
        "flood-0",
        "flood-1",
        "flood-2",
        "more-0",
    ]
    assert places.take("peer", "10.0.0.2", 6.0) == "more-1"
    assert "quiet" in places
    assert len(places) == 4


def test_one_source_never_has_more_than_its_share() -> None:
    """Beyond its share a source displaces its own, though there are free places."""
    places: Places[int] = Places(total=100, per_holder=2)
    assert [places.take(number, "10.9.9.9", float(number)) for number in range(5)] == [None, None, 0, 1, 2]
    assert len(places) == 2


def test_sources_of_one_connection_each_give_way_by_age() -> None:
    """When no source has more than another, the one that has been idle longest goes."""
    places: Places[int] = Places(total=3, per_holder=3)
    assert [places.take(number, f"10.0.0.{number}", float(number)) for number in range(6)] == [
        None,
        None,
        None,
        0,
        1,
        2,
    ]


def test_the_busy_are_not_displaced() -> None:
    """Only idle places can be taken over; when all are busy the newcomer gets none, and nothing changes."""
    places: Places[str] = Places(total=2, per_holder=2)
    places.take("a", "one", 0.0)
    places.take("b", "one", 1.0)
    places.work("a")
    assert places.take("c", "two", 2.0) == "b"
    places.work("c")
    with pytest.raises(NoPlaceError):
        places.take("d", "three", 3.0)
    assert ("a" in places, "c" in places, "d" in places) == (True, True, False)
    places.rest("a", 4.0)
    assert places.take("d", "three", 5.0) == "a"


def test_reserved_places_are_for_the_privileged() -> None:
    """With all others taken the privileged still get in; they are not displaced, and count for no share."""
    places: Places[str] = Places(total=2, per_holder=1, reserved=2)
    places.take("x", "one", 0.0)
    places.take("y", "two", 0.0)
    assert places.take("admin-a", "admin", 1.0, privileged=True) is None
    assert places.take("admin-b", "admin", 1.0, privileged=True) is None
    assert len(places) == 4
    assert places.take("z", "three", 2.0) == "x"
    assert places.take("admin-c", "admin", 3.0, privileged=True) == "y"
    assert all(name in places for name in ("admin-a", "admin-b", "admin-c", "z"))
    places.leave("admin-a")
    assert places.take("admin-d", "admin", 4.0, privileged=True) is None


def test_the_idle_are_found_by_their_time() -> None:
    """Working and resting again counts as new; the busy are never found."""
    places: Places[str] = Places(total=4, per_holder=4, reserved=1)
    places.take("p", "one", 0.0, privileged=True)
    for at, name in enumerate("abc"):
        places.take(name, "one", float(at))
    places.work("b")
    places.work("a")
    places.rest("a", 9.0)
    assert places.idle_since(2.0) == ["p", "c"]
    assert places.idle_since(9.0) == ["p", "c", "a"]


def test_who_has_no_place_cannot_change_anything() -> None:
    """A connection that was displaced may still report that it worked or ended."""
    places: Places[str] = Places(total=1, per_holder=1)
    places.work("x")
    places.rest("x", 1.0)
    places.leave("x")
    assert len(places) == 0
    assert places.idle_since(9.0) == []


@pytest.mark.parametrize(("total", "per_holder"), [(0, 0), (1, 0), (1, 2)])
def test_shares_that_make_no_sense_are_refused(total: int, per_holder: int) -> None:
    """A share is at least one place, and at most all of them."""
    with pytest.raises(ValueError, match="places per holder"):
        Places(total, per_holder)


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", "not an address"),
    ],
)
def test_what_counts_as_one_source(host: str, source: str) -> None:
    """An IPv4 address, however it is written; of IPv6 the network that one customer has for itself."""
    assert source_of(host) == source


class Model(RuleBasedStateMachine):
    """`Places` beside a plain list that is searched from end to end."""

    TOTAL, SHARE, RESERVED = 5, 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.places: Places[int] = Places(self.TOTAL, self.SHARE, self.RESERVED)
        self.now = 0.0
        self.made = 0
        self.holder: dict[int, str] = {}
        self.protected: set[int] = set()
        self.idle: dict[int, float] = {}

    @rule(holder=st.sampled_from("abcd"), privileged=st.booleans())
    def take(self, holder: str, privileged: bool) -> None:
        self.now += 1
        self.made += 1
        ordinary = {key: one for key, one in self.holder.items() if key not in self.protected}
        reserved = privileged and len(self.protected) < self.RESERVED
        own = [key for key, one in ordinary.items() if one == holder]
        free = reserved or (len(own) < self.SHARE and len(ordinary) < self.TOTAL)
        takeable = {key for key in ordinary if key in self.idle}
        if len(own) >= self.SHARE:
            takeable &= set(own)
        try:
            displaced = self.places.take(self.made, holder, self.now, privileged=privileged)
        except NoPlaceError:
            assert not free
            assert not takeable
            return
        if free:
            assert displaced is None
        else:
            assert displaced in takeable
            counts = Counter(ordinary[key] for key in takeable)
            assert counts[ordinary[displaced]] == max(counts.values())
            mine = [key for key in takeable if ordinary[key] == ordinary[displaced]]
            assert displaced == min(mine, key=lambda key: self.idle[key])
            del self.holder[displaced], self.idle[displaced]
        self.holder[self.made], self.idle[self.made] = holder, self.now
        if reserved:
            self.protected.add(self.made)

    @precondition(lambda self: self.holder)
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.holder)))
        self.places.work(key)
        self.idle.pop(key, None)

    @precondition(lambda self: self.holder)
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        self.now += 1
        key = data.draw(st.sampled_from(sorted(self.holder)))
        self.places.rest(key, self.now)
        self.idle[key] = self.now

    @precondition(lambda self: self.holder)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.holder)))
        self.places.leave(key)
        del self.holder[key]
        self.idle.pop(key, None)
        self.protected.discard(key)

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.places) == len(self.holder) <= self.TOTAL + self.RESERVED
        assert sorted(self.places.idle_since(self.now)) == sorted(self.idle)


TestModel = Model.TestCase
TestModel.settings = settings(deadline=None, derandomize=True, max_examples=60)
