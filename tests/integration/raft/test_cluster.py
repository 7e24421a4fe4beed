"""Three members agree, whoever of them is away."""

from pathlib import Path

import pytest

from coordinator.raft import NotLeader, TransferRefused
from tests.integration.raft.trio import three_members, until


async def test_three_members_found_a_cluster_and_agree(tmp_path: Path) -> None:
    """One leads; what it accepts all of them apply, in the same order; the others say who leads."""
    async with three_members(tmp_path) as trio:
        leader = await trio.elected()
        await trio.say(*(f"word {number}" for number in range(50)))
        await trio.agreed(*(f"word {number}" for number in range(50)))
        assert leader.runner is not None
        status = leader.runner.status()
        assert status.role == "leader"
        assert all(peer.connected for peer in status.peers.values())
        for member in trio.others(leader):
            assert member.runner is not None
            with pytest.raises(NotLeader, match=f"{leader.name} does"):
                await member.runner.propose(b"word")


async def test_everything_accepted_is_there_after_a_restart_of_all(tmp_path: Path) -> None:
    """From the disks alone, in the same cluster and a later term."""
    async with three_members(tmp_path) as trio:
        await trio.say("one", "two")
        await trio.agreed("one", "two")
        term = trio.members["coordinator-1"].runner.term  # type: ignore[union-attr]  # it runs
        for member in trio.members.values():
            await member.stop()
        for member in trio.members.values():
            await member.start()
        leader = await trio.elected()
        assert leader.runner is not None
        assert leader.runner.term > term
        await trio.say("three")
        await trio.agreed("one", "two", "three")


async def test_a_leader_that_ends_is_replaced(tmp_path: Path) -> None:
    """Accepted words stay, new ones are accepted by the next leader, and the old one catches up as a follower."""
    async with three_members(tmp_path) as trio:
        old = await trio.elected()
        assert old.runner is not None
        term = old.runner.term
        await trio.say("one")
        await old.stop()
        new = await trio.elected()
        assert new is not old
        assert new.leading_terms[-1] > term
        await trio.say("two")
        await old.start()
        await trio.agreed("one", "two")
        assert await trio.elected() is new


async def test_leadership_goes_where_it_is_sent(tmp_path: Path) -> None:
    """At once and without an accepted word lost; a member that does not exist is refused."""
    async with three_members(tmp_path) as trio:
        leader = await trio.elected()
        heir = trio.others(leader)[0]
        assert leader.runner is not None
        with pytest.raises(TransferRefused, match="coordinator-9"):
            await leader.runner.transfer_leadership("coordinator-9")
        await trio.say("one")
        assert await leader.runner.transfer_leadership(heir.name) == heir.name
        assert await trio.elected() is heir
        await trio.say("two")
        await trio.agreed("one", "two")


async def test_a_transfer_that_the_target_does_not_take_says_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request to the target is lost, as when it dies: the leader goes on leading, and the error names both."""
    async with three_members(tmp_path) as trio:
        leader = await trio.elected()
        heir = trio.others(leader)[0]
        assert leader.runner is not None
        monkeypatch.setattr("coordinator.raft.engine.Core.hand_over", lambda core, target: True)
        words = f"{heir.name} did not take over in time, and {leader.name} remains the leader for now; check that"
        with pytest.raises(TransferRefused, match=words):
            await leader.runner.transfer_leadership(heir.name)
        await trio.say("one")


async def test_a_wiped_member_is_caught_up_by_a_snapshot(tmp_path: Path) -> None:
    """The founder, configured to found: it joins the cluster that is there, gets the snapshot, and votes again."""
    async with three_members(tmp_path, snapshot_entries=20, ballast=3 << 20) as trio:
        founder = trio.members["coordinator-1"]
        words = [f"word {number}" for number in range(30)]
        await trio.say(*words)
        running = [member.runner for member in trio.members.values()]
        await until(lambda: all(runner is not None and runner.status().snapshot_index for runner in running))
        for member in trio.others(founder):  # their logs begin at the snapshot from now on
            await member.stop()
            await member.start()
            await trio.elected()
        await founder.stop()
        founder.wipe()
        await trio.elected()
        await founder.start()
        assert founder.runner is not None
        await until(lambda: founder.runner is not None and founder.runner.status().membership.startswith("member"))
        await trio.say("last")
        await trio.agreed(*words, "last")
        assert founder.runner.status().snapshot_index >= 20


async def test_members_wait_for_each_other_before_they_found_a_cluster(tmp_path: Path) -> None:
    """Two of three might be all that is left of an older one."""
    async with three_members(tmp_path, start=False) as trio:
        first, second, third = trio.members.values()
        await first.start()
        await second.start()
        assert first.runner is not None
        await until(lambda: first.runner is not None and first.runner.status().peers[second.name].connected)
        assert first.runner.status().membership == f"in no cluster yet: waiting to hear from {third.name}"
        assert first.runner.status().role == "waiting"
        await third.start()
        await trio.elected()
        await trio.say("one")
        await trio.agreed("one")
