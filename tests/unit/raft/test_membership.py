"""Who founds a cluster, who joins it, and who may vote in it."""

import pytest

from coordinator.raft.errors import StorageError
from coordinator.raft.membership import Membership, MemberState, PeerView
from coordinator.raft.storage.checksummed_json import dump
from tests.simulation.disk import SimDisk
from tests.unit.raft.storage import CLUSTER, append, entry, new_disk, open_journal, overwrite

NEW = PeerView("", 0)
"""A peer that knows of no cluster."""
FOUNDED = PeerView(CLUSTER, 1)
"""A peer of a cluster that has agreed on nothing yet."""
OLD = PeerView(CLUSTER, 17)
"""A peer of a cluster with history."""


def member(disk: SimDisk, *, bootstrap: bool = False, peers: tuple[str, ...] = ("n2", "n3")) -> Membership:
    return Membership(disk, "n1", list(peers), bootstrap=bootstrap, make_id=lambda: CLUSTER)


def test_founding_needs_every_peers_word() -> None:
    """One that was not heard may know of a cluster already."""
    first = member(new_disk(), bootstrap=True)
    assert not first.on_hello("n2", NEW)
    assert first.standing is MemberState.WAITING
    assert first.describe() == "in no cluster yet: waiting to hear from n3"
    assert first.on_hello("n3", NEW)
    assert (first.cluster_id, first.standing) == (CLUSTER, MemberState.VOTER)


def test_only_the_bootstrap_node_founds() -> None:
    """The others wait for it, however many there are."""
    other = member(new_disk())
    assert not other.on_hello("n2", NEW)
    assert not other.on_hello("n3", NEW)
    assert other.standing is MemberState.WAITING
    assert other.describe() == "in no cluster yet: waiting for the bootstrap node"


def test_a_lone_bootstrap_node_founds_at_once() -> None:
    """There is nobody to ask; without the setting even it waits."""
    assert member(new_disk(), bootstrap=True, peers=()).standing is MemberState.VOTER
    assert member(new_disk(), peers=()).standing is MemberState.WAITING


def test_a_new_cluster_is_joined_as_a_voter() -> None:
    """Once every peer has said that nothing has happened yet."""
    other = member(new_disk())
    assert not other.on_hello("n2", FOUNDED)
    assert other.on_hello("n3", NEW)
    assert (other.cluster_id, other.standing) == (CLUSTER, MemberState.VOTER)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_wiped_node_adopts_the_cluster_and_does_not_vote(bootstrap: bool) -> None:
    """One peer with history is enough; the setting `bootstrap: true` does not found a second cluster."""
    wiped = member(new_disk(), bootstrap=bootstrap)
    assert wiped.on_hello("n3", OLD)
    assert (wiped.cluster_id, wiped.standing) == (CLUSTER, MemberState.CATCHING_UP)
    assert "does not vote yet" in wiped.describe()


def test_a_founder_whose_peers_know_a_cluster_does_not_found_another() -> None:
    """Neither before nor after it has heard everybody."""
    wiped = member(new_disk(), bootstrap=True)
    assert not wiped.on_hello("n2", NEW)
    assert wiped.on_hello("n3", PeerView("f" * 32, 1))
    assert wiped.cluster_id == "f" * 32


def test_standing_survives_restarts() -> None:
    """A node that is catching up still is after a restart, and votes for good once it has caught up."""
    disk = new_disk()
    member(disk).on_hello("n3", OLD)
    again = member(disk)
    assert (again.cluster_id, again.standing) == (CLUSTER, MemberState.CATCHING_UP)
    again.caught_up()
    assert member(disk).standing is MemberState.VOTER
    assert member(disk).describe() == f"member of cluster {CLUSTER}"


def test_a_member_stays_with_its_cluster() -> None:
    """Whatever peers say afterwards."""
    disk = new_disk()
    node = member(disk, bootstrap=True, peers=())
    assert not node.on_hello("n2", PeerView("f" * 32, 99))
    assert node.cluster_id == CLUSTER


def test_another_nodes_directory_is_refused() -> None:
    """A disk or a configuration was mixed up."""
    disk = new_disk()
    member(disk, bootstrap=True, peers=())
    with pytest.raises(StorageError, match=r"belongs to n1, this node is n2: set node\.id or node\.data_dir"):
        Membership(disk, "n2", ["n1"], bootstrap=False, make_id=lambda: CLUSTER)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", dump({"cluster_id": CLUSTER}), dump({"cluster_id": CLUSTER, "node_id": "n1", "standing": "king"})],
    ids=["empty", "no checksum", "values missing", "unknown standing"],
)
def test_a_damaged_file_is_refused(data: bytes) -> None:
    """Never is it taken for a node without a cluster."""
    disk = new_disk()
    overwrite(disk, "membership", data)
    with pytest.raises(StorageError, match="file membership is damaged: run `coordinator rejoin`"):
        member(disk)


def test_a_journal_without_membership_is_refused() -> None:
    """Half of the directory is missing: the node must not take itself for a new one."""
    disk = new_disk()
    append(open_journal(disk), entry(1))
    with pytest.raises(StorageError, match="membership is missing beside a journal: run `coordinator rejoin`"):
        member(disk)


def test_a_disk_that_takes_nothing_is_an_error_with_a_cure() -> None:
    """And the node belongs to nothing that it has not stored."""
    disk = new_disk()
    node = member(disk)
    disk.full = True
    with pytest.raises(StorageError, match=r"membership: .*: free space or replace the disk"):
        node.on_hello("n2", OLD)
    assert node.standing is MemberState.WAITING
