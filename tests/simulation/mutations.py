"""Fixes that can be switched off, one by one, and the faults among which somebody must notice.

Each says by its name what the cluster does then; coordinator/raft/DESIGN.md says what is noticed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pysyncobj import SyncObj

from coordinator.raft.elections import Elections
from coordinator.raft.engine import LEADER, Core
from coordinator.raft.membership import Membership, MemberState
from coordinator.raft.node import RaftNode
from coordinator.raft.proposals import Done, PendingProposals
from coordinator.raft.snapshots import Snapshots
from coordinator.raft.storage.journal import Entry, Journal, _fatal
from coordinator.raft.storage.segment import Tail
from coordinator.raft.transport import framing
from coordinator.raft.wire import EngineHost
from coordinator.state.codec import decode_group
from coordinator.state.machine import State
from coordinator.state.model import Outcome, Rejection, Task
from tests.simulation.network import Network
from tests.simulation.record import SimRecord
from zkp.protocol.v1 import raft_pb2 as pb

Switch = Callable[[pytest.MonkeyPatch], None]


# ------------------------------------------------------------ durability


def promises_before_the_disk_has_them(patch: pytest.MonkeyPatch) -> None:
    def send(wire: EngineHost, peer_id: str, message: dict[str, Any]) -> None:
        if message["type"] != "apply_command":
            wire._send(peer_id, framing.from_engine(message))

    patch.setattr(EngineHost, "send", send)


def votes_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    def remember(log: Journal, term: int, vote: str | None) -> None:
        log._term, log._voted_for = term, vote

    patch.setattr(Journal, "setCurrentTerm", remember)


def goes_on_after_an_io_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_fatal, "__exit__", lambda _self, _kind, error, _trace: isinstance(error, OSError))


def forgets_what_lies_behind_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    def restart_from(log: Journal, before: Entry, last: Entry) -> None:
        log.clear()
        log.add(*before)
        log.add(*last)
        log.sync()

    patch.setattr(Journal, "restart_from", restart_from)


def believes_the_page_cache_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    recover = Journal._recover

    def recover_only(log: Journal) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr("tests.simulation.disk.SimFile.datasync", lambda _file: None)
            recover(log)

    patch.setattr(Journal, "_recover", recover_only)


def leaves_a_torn_tail_behind(patch: pytest.MonkeyPatch) -> None:
    def only_stop(log: Journal, _name: str, tail: Tail, _size: int, *, last: bool) -> None:
        if last:
            log._offset = log._synced = tail.offset

    patch.setattr(Journal, "_end_of_segment", only_stop)


def cuts_the_log_before_the_snapshot_is_there(patch: pytest.MonkeyPatch) -> None:
    take = Snapshots._take

    def cut_and_take(snapshots: Snapshots, index: int, trailing_bytes: int) -> None:
        snapshots._cut_back(index, trailing_bytes)
        take(snapshots, index, trailing_bytes)

    patch.setattr(Snapshots, "_take", cut_and_take)


def installs_a_snapshot_on_its_own_thread(patch: pytest.MonkeyPatch) -> None:
    def install(snapshots: Snapshots, received: bytearray, last_applied: int) -> None:
        snapshots._installed(snapshots._prepare(received, last_applied, lambda: None))

    patch.setattr(Snapshots, "_install", install)


def acknowledges_what_follows_a_snapshot_too_soon(patch: pytest.MonkeyPatch) -> None:
    def take(node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        position = pb.NextIndex(next_index=_end(envelope) + 1, reset=False, success=True)
        node.send(peer, pb.Envelope(next_index=position))

    entries = RaftNode._on_append_entries

    def too_soon(node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        if node._snapshots.installing and envelope.term == core.raftCurrentTerm:
            take(node, core, peer, envelope)
        else:
            entries(node, core, peer, envelope)

    patch.setattr(RaftNode, "_on_append_entries", too_soon)


def _end(envelope: pb.Envelope) -> int:
    message = envelope.append_entries
    return message.entries[-1].index if message.entries else message.prev_index


# ------------------------------------------------------------ safety


def truncates_on_repeated_entries(patch: pytest.MonkeyPatch) -> None:
    def truncate(core: Core, index: int) -> None:
        core._journal.deleteEntriesFrom(index - core._journal[0][1])

    patch.setattr(Core, "_SyncObj__deleteEntriesFrom", truncate)
    patch.setattr(Core, "step_append_entries", Core.step)


def leads_before_its_state_is_current(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "no_op_index", lambda _core: 1)


def votes_without_its_memory(patch: pytest.MonkeyPatch) -> None:
    store = Membership._store

    def as_voter(membership: Membership, cluster_id: str, _standing: MemberState) -> None:
        store(membership, cluster_id, MemberState.VOTER)

    patch.setattr(Membership, "_store", as_voter)


def founds_a_cluster_by_itself(patch: pytest.MonkeyPatch) -> None:
    decide = Membership._decide

    def found(membership: Membership) -> bool:
        if membership.standing is MemberState.WAITING and membership._bootstrap:
            membership._store(membership._make_id(), MemberState.VOTER)
            return True
        return decide(membership)

    patch.setattr(Membership, "_decide", found)


def counts_acknowledgements_of_older_terms(patch: pytest.MonkeyPatch) -> None:
    take = RaftNode._on_next_index

    def whatever_the_term(node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        envelope.term = core.raftCurrentTerm
        take(node, core, peer, envelope)

    patch.setattr(RaftNode, "_on_next_index", whatever_the_term)


def commits_beyond_what_a_message_carried(patch: pytest.MonkeyPatch) -> None:
    step_append_entries = Core.step_append_entries

    def believing(core: Core, peer: str, message: dict[str, Any]) -> None:
        commit_index = message["commit_index"]
        with pytest.MonkeyPatch.context() as inner:
            feed = core.step
            inner.setattr(core, "step", lambda peer, told: feed(peer, told | {"commit_index": commit_index}))
            step_append_entries(core, peer, message)

    patch.setattr(Core, "step_append_entries", believing)


def commits_by_a_part_of_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    def take(node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        message = framing.to_engine(envelope)
        if message["term"] >= core.raftCurrentTerm:
            node._elections.on_leader_contact()
            core.step(peer, message)

    patch.setattr(RaftNode, "_on_install_snapshot", take)


def vouches_for_what_follows_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "_SyncObj__sendNextNodeIdx", SyncObj._SyncObj__sendNextNodeIdx)


def counts_who_is_catching_up(patch: pytest.MonkeyPatch) -> None:
    take = RaftNode._on_next_index

    def as_anybody(node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        envelope.next_index.learner = False
        take(node, core, peer, envelope)

    patch.setattr(RaftNode, "_on_next_index", as_anybody)


def counts_messages_instead_of_voters(patch: pytest.MonkeyPatch) -> None:
    """And each vote comes twice: alone the fix is not missed, since the numbers of the frames rule that out."""
    patch.setattr(
        Elections, "on_vote", lambda _elections, core, peer, envelope: core.step(peer, framing.to_engine(envelope))
    )
    votes_come_twice(patch)


def votes_come_twice(patch: pytest.MonkeyPatch) -> None:
    send = Network.send

    def again(
        network: Network, sender: str, receiver: str, envelope: pb.Envelope, *, not_before: float = 0.0
    ) -> None:
        for _ in range(2 if envelope.HasField("vote") else 1):
            send(network, sender, receiver, envelope, not_before=not_before)

    patch.setattr(Network, "send", again)


def reads_without_a_barrier(patch: pytest.MonkeyPatch) -> None:
    propose = RaftNode.propose

    def answer_reads(node: RaftNode, command: bytes, done: Done) -> None:
        if node.leading_term is not None and not decode_group(command).commands:
            done([])
        else:
            propose(node, command, done)

    patch.setattr(RaftNode, "propose", answer_reads)


def writes_the_record_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimRecord, "fenced", False)


# ------------------------------------------------------------ liveness


def believes_in_itself_though_cut_off(patch: pytest.MonkeyPatch) -> None:
    make = Core.__init__

    def patient(core: Core, *args: Any, **kwargs: Any) -> None:
        make(core, *args, **kwargs)
        core.conf.leaderFallbackTimeout = 30.0

    patch.setattr(Core, "__init__", patient)


def campaigns_without_asking(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Elections, "campaign_if_due", lambda _elections, _core, _peers: None)


def encourages_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("coordinator.raft.elections.would_vote", lambda **_: True)


def applies_a_long_log_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "_SyncObj__applyLogEntries", SyncObj._SyncObj__applyLogEntries)
    patch.setattr(Core, "_SyncObj__getCurrentLogIndex", SyncObj._SyncObj__getCurrentLogIndex)


def ignores_a_higher_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "step_down", lambda _core, _peer, _term: None)


def does_not_show_its_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftNode, "_show_term", lambda _node, _core, _peer: None)


def forgets_who_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PendingProposals, "fail", lambda _waiting: None)


def follows_the_last_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "_rewind", lambda _core, _peer, following: following)
    patch.setattr(Core, "_begin_of_term", lambda _core, index: index)


def goes_where_a_longer_log_ends(patch: pytest.MonkeyPatch) -> None:
    take = Core.step_next_index

    def follow(core: Core, peer: str, message: dict[str, Any]) -> None:
        take(core, peer, message)
        if core.role() == LEADER and message["next_node_idx"] > core.last_log_index() + 1:
            core._next_index()[core._nodes[peer]] = message["next_node_idx"]

    patch.setattr(Core, "step_next_index", follow)


# ------------------------------------------------------------ tasks


def accepts_reports_of_older_attempts(patch: pytest.MonkeyPatch) -> None:
    def check(_state: State, task: Task | None, _task_id: str, _worker: str, _attempt: int) -> Rejection | None:
        return None if task is not None and task.state.leased else Rejection("stale", "")  # type: ignore[arg-type]

    patch.setattr(State, "_check_report", check)


def accepts_a_task_twice(patch: pytest.MonkeyPatch) -> None:
    submit = State._submit

    def again(state: State, command: Any) -> Outcome:
        known = state.tasks.get(command.task_id)
        if known is not None and known.state.final:
            del state.tasks[known.id], state.finished[known.id]
        return submit(state, command)

    patch.setattr(State, "_submit", again)


def lets_time_run_backwards(patch: pytest.MonkeyPatch) -> None:
    apply = State.apply

    def stamped(state: State, command: Any, now_ms: int, term: int) -> Outcome:
        state.clock_ms = 0
        return apply(state, command, now_ms, term)

    patch.setattr(State, "apply", stamped)


DEATHS = ("kill_process", "lose_power", "lose_all_power", "die_at_io_call")
CUTS = ("isolate", "cut_one_way", "cut_one_link", "pause")
WIPES = ("wipe_disk", "isolate", "cut_one_link", "kill_process")
WORK = ("kill_worker", "worker_lies", "pause", "isolate")
DEPOSED = ("cut_off_leader",)


@dataclass(frozen=True, slots=True)
class Mutation:
    """kinds: the faults among which it shows; seed: known to show it; the search goes on from there, should the
    simulation change."""

    switch_off: Switch
    kinds: tuple[str, ...]
    seed: int = 0
    size: int = 3

    def __str__(self) -> str:
        return self.switch_off.__name__


MUTATIONS = (
    Mutation(promises_before_the_disk_has_them, DEATHS),
    Mutation(votes_in_memory_only, DEATHS),
    Mutation(goes_on_after_an_io_error, ("fill_disk",)),
    Mutation(forgets_what_lies_behind_a_snapshot, DEATHS),
    Mutation(believes_the_page_cache_after_a_restart, ("die_at_io_call", "kill_process"), seed=2),
    Mutation(leaves_a_torn_tail_behind, ("die_in_a_write",)),
    Mutation(cuts_the_log_before_the_snapshot_is_there, ("die_storing_a_snapshot",)),
    Mutation(installs_a_snapshot_on_its_own_thread, ("slow_snapshots",)),
    Mutation(acknowledges_what_follows_a_snapshot_too_soon, ("slow_snapshots",)),
    Mutation(truncates_on_repeated_entries, CUTS, seed=5),
    Mutation(leads_before_its_state_is_current, DEATHS),
    Mutation(votes_without_its_memory, WIPES, seed=1),
    Mutation(founds_a_cluster_by_itself, ("wipe_disk",)),
    Mutation(counts_acknowledgements_of_older_terms, ("reelect_leader",), seed=1, size=5),
    Mutation(commits_beyond_what_a_message_carried, DEPOSED, seed=3),
    Mutation(commits_by_a_part_of_a_snapshot, DEPOSED),
    Mutation(vouches_for_what_follows_a_snapshot, DEPOSED, seed=10),
    Mutation(counts_who_is_catching_up, WIPES),
    Mutation(counts_messages_instead_of_voters, ("cut_off_leader", "cut_off_candidate"), seed=3, size=5),
    Mutation(reads_without_a_barrier, DEPOSED),
    Mutation(writes_the_record_without_a_fence, DEPOSED, seed=1),
    Mutation(believes_in_itself_though_cut_off, CUTS, seed=1),
    Mutation(campaigns_without_asking, CUTS),
    Mutation(encourages_whoever_asks, CUTS, seed=1),
    Mutation(applies_a_long_log_at_once, ("slow_processor",)),
    Mutation(ignores_a_higher_term, ("cut_off_candidate",)),
    Mutation(does_not_show_its_term, ("cut_off_candidate",)),
    Mutation(forgets_who_waits, CUTS),
    Mutation(follows_the_last_refusal, ("cut_off_leader", "hold_messages"), seed=138),
    Mutation(goes_where_a_longer_log_ends, DEPOSED),
    Mutation(accepts_reports_of_older_attempts, WORK, seed=1),
    Mutation(accepts_a_task_twice, WORK, seed=2),
    Mutation(lets_time_run_backwards, ("jump_clock", "transfer")),
)
