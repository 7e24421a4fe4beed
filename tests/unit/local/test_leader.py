"""The leader according to the nodes' health reports."""

from zkp.localcluster.https import Leader, leader_of


def test_the_node_that_says_so_leads() -> None:
    """Followers and unreachable nodes are not leaders."""
    reports: dict[str, dict[str, object]] = {
        "coordinator-1": {},
        "coordinator-2": {"raft": {"is_leader": True, "term": 3}},
        "coordinator-3": {"raft": {"is_leader": False, "term": 3}},
    }

    assert leader_of(reports) == Leader("coordinator-2", 3)


def test_of_two_the_later_term_counts() -> None:
    """Of two leaders, the one with the higher term counts."""
    reports: dict[str, dict[str, object]] = {
        "coordinator-1": {"raft": {"is_leader": True, "term": 3}},
        "coordinator-2": {"raft": {"is_leader": True, "term": 4}},
    }

    assert leader_of(reports) == Leader("coordinator-2", 4)


def test_there_may_be_no_leader() -> None:
    """During an election there is no leader."""
    assert leader_of({"coordinator-1": {"raft": {"is_leader": False, "term": 3}}, "coordinator-2": {}}) is None
