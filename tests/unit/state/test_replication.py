"""Between the services and the log: commands in, outcomes out, many commands in one entry."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from coordinator.raft import MAX_COMMAND_BYTES, NotLeader, OutcomeUnknown, RaftStatus, UpgradeRequired
from coordinator.replication.replicator import ReplicatedState, Replicator
from coordinator.state.codec import decode_group, encode_command, encode_group
from coordinator.state.commands import Cancel, Command, Group, RegisterCircuit, Submit
from coordinator.state.model import EventKind, RefusalCode, TaskEvent
from zkp.protocol.v1 import replicated_pb2 as pb

CIRCUIT = RegisterCircuit("addition", "key")


@dataclass
class FakeLog:
    """A log that agrees with itself, one entry after the other, when `release` lets it."""

    replica: ReplicatedState
    leading_term: int | None = 4
    leader_id: str | None = "coordinator-1"
    term: int = 4
    entries: list[Group] = field(default_factory=list)
    failure: Exception | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)
    before_applying: Callable[[], None] = lambda: None

    async def propose(self, command: bytes) -> object:
        if not 0 < len(command) <= MAX_COMMAND_BYTES:
            raise ValueError(f"a command of {len(command)} bytes")
        await self.released.wait()
        if self.failure is not None:
            raise self.failure
        self.entries.append(decode_group(command))
        return self.replica.apply(command, len(self.entries))

    async def transfer_leadership(self, to: str | None) -> str:
        return to or "coordinator-2"

    def status(self) -> RaftStatus:
        raise NotImplementedError


@dataclass
class Bench:
    replica: ReplicatedState
    log: FakeLog
    replicator: Replicator


@pytest.fixture
def bench() -> Bench:
    """A leader whose entries commit as soon as they are proposed."""
    replica = ReplicatedState()
    log = FakeLog(replica)
    log.released.set()
    return Bench(replica, log, Replicator("coordinator-1", replica, log, clock_ms=lambda: 5_000))


def submit(number: int, size: int = 10) -> Submit:
    return Submit(f"t{number}", "client", "addition", b"x" * size, (), 3)


async def test_an_outcome_comes_back_with_the_leaders_stamps(bench: Bench) -> None:
    """The proposer stamps time and term; the state machine looks at no clock."""
    outcome = await bench.replicator.submit(CIRCUIT)
    assert bench.log.entries == [Group(5_000, 4, (CIRCUIT,))]
    assert [event.at_ms for event in outcome.events] == [5_000]


async def test_what_arrives_while_an_entry_is_in_flight_rides_in_the_next(bench: Bench) -> None:
    """A hundred submissions cost two entries, and each caller gets its own outcome."""
    await bench.replicator.submit(CIRCUIT)
    bench.log.released.clear()
    first = asyncio.ensure_future(bench.replicator.submit(submit(0)))
    await asyncio.sleep(0)
    rest = [asyncio.ensure_future(bench.replicator.submit(submit(number))) for number in range(1, 100)]
    await asyncio.sleep(0)
    bench.log.released.set()
    outcomes = [await first, *(await asyncio.gather(*rest))]
    assert [len(group.commands) for group in bench.log.entries] == [1, 1, 99]
    assert [outcome.task.id for outcome in outcomes if outcome.task] == [f"t{number}" for number in range(100)]


async def test_a_group_stays_below_what_the_log_takes(bench: Bench) -> None:
    """Many large commands are split over entries, in order."""
    await bench.replicator.submit(CIRCUIT)
    commands = [submit(number, size=40_000) for number in range(12)]
    outcomes = await bench.replicator.submit_all(commands)
    assert all(outcome.events for outcome in outcomes)
    assert [command for group in bench.log.entries[1:] for command in group.commands] == commands
    assert len(bench.log.entries) > 3


async def test_a_barrier_commits_an_entry_of_its_own(bench: Bench) -> None:
    """Reading what is current costs one entry, though nothing is in it."""
    await bench.replicator.barrier()
    assert bench.log.entries == [Group(5_000, 4, ())]


async def test_commands_and_barriers_in_one_group_do_not_mix_up_outcomes(bench: Bench) -> None:
    """Each caller gets what its own command did."""
    bench.log.released.clear()
    head = asyncio.ensure_future(bench.replicator.submit(CIRCUIT))
    await asyncio.sleep(0)
    waiting = [
        asyncio.ensure_future(bench.replicator.barrier()),
        asyncio.ensure_future(bench.replicator.submit(submit(1))),
        asyncio.ensure_future(bench.replicator.barrier()),
        asyncio.ensure_future(bench.replicator.submit(Cancel("nobody"))),
    ]
    await asyncio.sleep(0)
    bench.log.released.set()
    await head
    _, accepted, _, refused = await asyncio.gather(*waiting)
    assert accepted is not None
    assert accepted.task is not None
    assert accepted.task.id == "t1"
    assert refused is not None
    assert refused.refusal is not None
    assert refused.refusal.code is RefusalCode.NOT_FOUND


@pytest.mark.parametrize("failure", [NotLeader("coordinator-2"), OutcomeUnknown("leadership was lost")])
async def test_every_caller_of_a_failed_entry_hears_of_it(bench: Bench, failure: Exception) -> None:
    """Every caller gets an answer, and later commands are proposed again."""
    bench.log.failure = failure
    results = await asyncio.gather(
        bench.replicator.submit(submit(1)), bench.replicator.submit(submit(2)), return_exceptions=True
    )
    assert list(results) == [failure, failure]
    bench.log.failure = None
    assert (await bench.replicator.submit(CIRCUIT)).events


async def test_a_command_that_the_log_does_not_take_fails_alone(bench: Bench) -> None:
    """One that is too large is an error for its caller; those behind it are not left hanging."""
    await bench.replicator.submit(CIRCUIT)
    large, small = await asyncio.gather(
        bench.replicator.submit(submit(1, size=MAX_COMMAND_BYTES)),
        bench.replicator.submit(submit(2)),
        return_exceptions=True,
    )
    assert isinstance(large, ValueError)
    assert not isinstance(small, BaseException)
    assert small.events


async def test_a_follower_refuses_before_it_queues(bench: Bench) -> None:
    """NotLeader names who leads, at once."""
    bench.log.leading_term, bench.log.leader_id = None, "coordinator-3"
    for call in (bench.replicator.submit(CIRCUIT), bench.replicator.barrier()):
        with pytest.raises(NotLeader) as refused:
            await call
        assert refused.value.leader_id == "coordinator-3"
    assert not bench.log.entries


async def test_a_caller_that_gives_up_does_not_disturb_the_others(bench: Bench) -> None:
    """Its command may be accepted all the same; the rest of the group gets its outcomes."""
    await bench.replicator.submit(CIRCUIT)
    bench.log.released.clear()
    callers = [asyncio.ensure_future(bench.replicator.submit(submit(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers[0].cancel()
    callers[1].cancel()
    bench.log.released.set()
    outcome = await callers[2]
    assert outcome.task is not None
    assert outcome.task.id == "t2"
    assert set(bench.replicator.state.tasks) == {"t0", "t1", "t2"}


def test_an_entry_that_does_not_decode_is_refused_and_changes_nothing() -> None:
    """It must not stop a node: every other would stop at the same entry."""
    replica = ReplicatedState()
    unknown = pb.Group(commands=[encode_command(CIRCUIT), pb.Command()]).SerializeToString()
    for entry in (b"\xff\xff", unknown):
        (outcome,) = replica.apply(entry, 7)
        assert outcome.refusal is not None
        assert outcome.refusal.code is RefusalCode.INVALID
    assert not replica.state.circuits


def test_an_entry_of_a_later_version_stops_the_node() -> None:
    """To refuse what the others carry out would be another history; the words name the cure."""
    replica = ReplicatedState()
    news = pb.Command.FromString(b"\x9a\x06\x02hi")  # field 99, which nobody has yet
    with pytest.raises(UpgradeRequired, match=r"log entry 7 was written by a later version .*: upgrade this node"):
        replica.apply(encode_group(1, 1, [encode_command(CIRCUIT), news]), 7)
    assert replica.state.revision == 0


def test_listeners_hear_of_changes_in_order_and_of_nothing_else() -> None:
    """One call an entry that changed something, with all its events."""
    replica = ReplicatedState()
    heard: list[list[EventKind]] = []

    def listen(events: Sequence[TaskEvent]) -> None:
        heard.append([event.kind for event in events])

    replica.on_events(listen)
    entries: list[list[Command]] = [[CIRCUIT, submit(1)], [CIRCUIT], [Cancel("nobody")], [Cancel("t1")]]
    for index, commands in enumerate(entries, start=2):
        replica.apply(encode_group(0, 1, [encode_command(command) for command in commands]), index)
    assert heard == [[EventKind.CIRCUIT_REGISTERED, EventKind.TASK_SUBMITTED], [EventKind.TASK_CANCELLED]]


def test_a_restored_replica_equals_the_one_that_was_captured() -> None:
    """Through bytes, as a snapshot goes."""
    replica, other = ReplicatedState(), ReplicatedState()
    replica.apply(encode_group(0, 1, [encode_command(CIRCUIT), encode_command(submit(1))]), 2)
    swap = other.load(memoryview(b"".join(replica.capture())), lambda: None)
    assert not other.state.tasks, "nothing changes before the swap"
    swap()
    assert other.state.tasks == replica.state.tasks
    with pytest.raises(ValueError, match="snapshot"):
        other.load(memoryview(b"\xff\xff"), lambda: None)


def test_leadership_is_passed_on() -> None:
    """Listeners hear the term when this node leads and None when it no longer does."""
    replica = ReplicatedState()
    replicator = Replicator("coordinator-1", replica, FakeLog(replica))
    heard: list[int | None] = []
    replicator.on_leadership(heard.append)
    replicator.leading(4)
    replicator.following()
    assert heard == [4, None]
