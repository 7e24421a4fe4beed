"""Who leads, by what the nodes say of themselves."""

from zkp.localcluster.https import Leader, leader_of


def test_the_node_that_says_so_leads() -> None:
    """Followers and nodes that do not answer name nobody."""
    reports: dict[str, dict[str, object]] = {
        "coordinator-1": {},
        "coordinator-2": {"raft": {"is_leader": True, "term": 3}},
        "coordinator-3": {"raft": {"is_leader": False, "term": 3}},
    }

    assert leader_of(reports) == Leader("coordinator-2", 3)


def test_of_two_the_later_term_counts() -> None:
    """A deposed leader may not have noticed yet."""
    reports: dict[str, dict[str, object]] = {
        "coordinator-1": {"raft": {"is_leader": True, "term": 3}},
        "coordinator-2": {"raft": {"is_leader": True, "term": 4}},
    }

    assert leader_of(reports) == Leader("coordinator-2", 4)


def test_nobody_may_lead() -> None:
    """During an election there is no leader to name."""
    assert leader_of({"coordinator-1": {"raft": {"is_leader": False, "term": 3}}, "coordinator-2": {}}) is None
