"""The worker among leaders that come, go, refuse and forget; in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from tests.unit.client.network import A, B, C, Network, Node, follower, not_leader
from tests.unit.client.virtual_time import run
from tests.unit.worker.doubles import KEY, RunnerFixture
from worker.agent import Agent, Phase
from worker.job import AttemptId
from worker.session import WorkerInfo
from zkp.client.failures import CallFailed
from zkp.client.leader import LeaderConnection
from zkp.protocol.v1 import coordinator_pb2 as pb

ME = WorkerInfo("worker-1", "incarnation-1", 2, {"addition": KEY}, "1.0")
LOST = CallFailed(grpc.StatusCode.UNAVAILABLE, "connection lost")
SLOW = CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class Leader:
    """A leader's worker service. Put assignments, or an exception to end the stream, into `stream`."""

    def __init__(self) -> None:
        self.registrations: list[pb.RegisterWorkerRequest] = []
        self.heartbeats: list[pb.HeartbeatRequest] = []
        self.streams = 0
        self.open = 0
        self.stream: asyncio.Queue[pb.Assignment | Exception | None] = asyncio.Queue()
        self.dropped: list[pb.Attempt] = []
        self.registration: CallFailed | None = None
        self.heartbeat: CallFailed | None = None

    def node(self) -> Node:
        return Node(RegisterWorker=self.register, SendHeartbeat=self.beat, ReceiveTasks=self.receive)

    async def register(self, request: pb.RegisterWorkerRequest) -> pb.RegisterWorkerResponse:
        self.registrations.append(request)
        if self.registration is not None:
            raise self.registration
        return pb.RegisterWorkerResponse(heartbeat_interval_ms=1000, lease_ms=5000, dropped=self.dropped)

    async def beat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        self.heartbeats.append(request)
        if self.heartbeat is not None:
            raise self.heartbeat
        return pb.HeartbeatResponse(dropped=self.dropped)

    async def receive(self, _: pb.ReceiveTasksRequest) -> AsyncIterator[pb.Assignment]:
        self.streams += 1
        self.open += 1
        try:
            while (item := await self.stream.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.open -= 1

    def assign(self, task_id: str, attempt: int = 1) -> None:
        self.stream.put_nowait(
            pb.Assignment(task_id=task_id, attempt=attempt, circuit="addition", verifying_key_sha256=KEY)
        )


class World:
    """One worker and its coordinators."""

    def __init__(self, network: Network, connection: LeaderConnection, fixture: RunnerFixture) -> None:
        self.network = network
        self.fixture = fixture
        self.agent = Agent(connection=connection, info=ME, runner=fixture.runner)


def play(
    nodes: Callable[[], dict[str, Node]], story: Callable[[World], Awaitable[None]], *, seconds: float = 3
) -> None:
    """Run a scenario with a worker whose proofs take `seconds`."""

    async def scenario() -> None:
        network = Network(nodes())
        async with network.connect() as connection:
            world = World(network, connection, RunnerFixture(seconds=seconds))
            serving = asyncio.create_task(world.agent.serve())
            await story(world)
            assert not serving.done()
            serving.cancel()
            await asyncio.wait([serving])
            await world.fixture.runner.close(0)

    run(scenario())


def test_a_worker_registers_with_the_leader_and_sends_heartbeats() -> None:
    """It registers, opens one stream and sends a heartbeat per interval."""
    leaders: list[Leader] = []

    def nodes() -> dict[str, Node]:
        leaders.append(Leader())
        return {A: follower(C), B: follower(C), C: leaders[0].node()}

    async def story(world: World) -> None:
        await asyncio.sleep(10.5)
        (leader,) = leaders
        assert leader.registrations == [
            pb.RegisterWorkerRequest(
                worker_id="worker-1",
                incarnation="incarnation-1",
                capacity=2,
                circuits=[pb.CircuitKey(circuit="addition", verifying_key_sha256=KEY)],
                version="1.0",
            )
        ]
        assert (leader.streams, len(leader.heartbeats)) == (1, 10)
        assert (world.agent.phase, world.agent.leader) == (Phase.ONLINE, C)

    play(nodes, story)


def one_leader(leaders: list[Leader]) -> Callable[[], dict[str, Node]]:
    """A single coordinator, which leads; it is put into `leaders`."""

    def nodes() -> dict[str, Node]:
        leaders.append(Leader())
        return {A: leaders[0].node()}

    return nodes


def test_heartbeats_name_the_held_attempts() -> None:
    """From its assignment until its report is taken."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.assign("t-1")
        await asyncio.sleep(2.5)
        assert [list(beat.held) for beat in leader.heartbeats] == [[pb.Attempt(task_id="t-1", attempt=1)]] * 2
        await asyncio.sleep(2)
        assert list(leader.heartbeats[-1].held) == []
        assert len(world.fixture.reporter.proofs) == 1

    play(one_leader(leaders), story)


@pytest.mark.parametrize("end", [None, LOST, not_leader(B)])
def test_the_next_leader_receives_the_held_attempts(end: CallFailed | None) -> None:
    """However the stream ends, the worker registers with the new leader and continues proving."""
    leaders: list[Leader] = []

    def nodes() -> dict[str, Node]:
        leaders.extend((Leader(), Leader()))
        return {A: leaders[0].node(), B: follower(A)}

    async def story(world: World) -> None:
        old, new = leaders
        old.assign("t-1")
        await asyncio.sleep(1.5)
        world.network.nodes.update({A: follower(B), B: new.node()})
        old.stream.put_nowait(end)
        await asyncio.sleep(1)
        (registration,) = new.registrations
        assert list(registration.held) == [pb.Attempt(task_id="t-1", attempt=1)]
        assert world.agent.leader == B
        assert (old.open, new.open) == (0, 1)
        await asyncio.sleep(3)
        assert world.fixture.pool.begun == [AttemptId("t-1", 1)]
        assert len(world.fixture.reporter.proofs) == 1

    play(nodes, story)


def test_heartbeats_detect_an_unresponsive_leader() -> None:
    """A stream that stays open without messages does not keep the worker with a dead leader."""
    leaders: list[Leader] = []

    def nodes() -> dict[str, Node]:
        leaders.extend((Leader(), Leader()))
        return {A: leaders[0].node(), B: follower(A)}

    async def story(world: World) -> None:
        old, new = leaders
        await asyncio.sleep(1.5)
        old.heartbeat = SLOW
        old.registration = SLOW
        world.network.nodes[B] = new.node()
        await asyncio.sleep(10)
        assert len(new.registrations) == 1

    play(nodes, story)


def test_one_slow_heartbeat_causes_no_new_registration() -> None:
    """Registering anew may cost leases that are on their way; only a lapsed lease is worth that."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.heartbeat = SLOW
        await asyncio.sleep(3.5)
        leader.heartbeat = None
        await asyncio.sleep(20)
        assert (len(leader.registrations), leader.streams) == (1, 1)

    play(one_leader(leaders), story)


def test_dropped_attempts_are_ended() -> None:
    """Those named in the answer to a heartbeat, and to a registration."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.assign("t-1")
        leader.assign("t-2")
        await asyncio.sleep(0.5)
        leader.dropped = [pb.Attempt(task_id="t-1", attempt=1)]
        await asyncio.sleep(1)
        assert world.fixture.pool.cut_short == [AttemptId("t-1", 1)]
        leader.dropped = [pb.Attempt(task_id="t-2", attempt=1)]
        leader.stream.put_nowait(LOST)
        await asyncio.sleep(0.5)
        assert len(leader.registrations) == 2
        assert world.fixture.pool.cut_short == [AttemptId("t-1", 1), AttemptId("t-2", 1)]
        assert world.fixture.runner.held() == ()

    play(one_leader(leaders), story)


def test_a_worker_unknown_to_the_leader_registers_again() -> None:
    """NOT_FOUND to a heartbeat leads to a prompt new registration."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        await asyncio.sleep(1.5)
        leader.heartbeat = CallFailed(grpc.StatusCode.NOT_FOUND, "not registered: register again")
        await asyncio.sleep(1)
        leader.heartbeat = None
        await asyncio.sleep(2)
        assert len(leader.registrations) == 2
        assert world.agent.phase is Phase.ONLINE

    play(one_leader(leaders), story)


def test_a_quarantined_worker_logs_it_and_retries_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """It does not hammer the leader, does not end, and is back soon after its release."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.registration = CallFailed(grpc.StatusCode.PERMISSION_DENIED, "worker-1 is quarantined: false proof")
        await asyncio.sleep(600)
        assert world.agent.phase is Phase.REFUSED
        assert 8 < len(leader.registrations) < 30
        leader.registration = None
        await asyncio.sleep(61)
        assert world.agent.phase is Phase.ONLINE

    play(one_leader(leaders), story)
    assert "coordinators refuse this worker" in caplog.text
    assert "worker-1 is quarantined: false proof" in caplog.text


def test_a_reload_ends_the_wait_of_a_refused_worker() -> None:
    """A renewed certificate is tried at once."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.registration = CallFailed(grpc.StatusCode.UNAUTHENTICATED, "certificate expired")
        await asyncio.sleep(600)
        leader.registration = None
        world.agent.retry_now()
        await asyncio.sleep(0.1)
        assert world.agent.phase is Phase.ONLINE

    play(one_leader(leaders), story)


def test_registrations_with_failing_sessions_back_off() -> None:
    """Registration is a replicated command: a stream that always breaks must not cause a flood of them."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        for _ in range(10_000):
            leader.stream.put_nowait(LOST)
        await asyncio.sleep(60)
        assert len(leader.registrations) < 30

    play(one_leader(leaders), story)


def test_a_new_leader_is_found_at_once_after_hours(caplog: pytest.LogCaptureFixture) -> None:
    """A long service does not use up the patience of the search that follows it."""
    leaders: list[Leader] = []

    def nodes() -> dict[str, Node]:
        leaders.extend((Leader(), Leader()))
        return {A: leaders[0].node(), B: follower(A)}

    async def story(world: World) -> None:
        old, new = leaders
        await asyncio.sleep(7200)
        world.network.nodes.update({A: follower(B), B: new.node()})
        old.stream.put_nowait(LOST)
        await asyncio.sleep(0.1)
        assert world.agent.leader == B

    play(nodes, story)
    assert "no leader found" not in caplog.text


def test_minutes_without_coordinators_are_survived() -> None:
    """What was held is proved meanwhile, still held, and named at the next registration."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.assign("t-1")
        await asyncio.sleep(0.5)
        world.fixture.reporter.reachable.clear()
        node = world.network.nodes.pop(A)
        leader.stream.put_nowait(LOST)
        await asyncio.sleep(300)
        assert list(world.fixture.store.stored) == [AttemptId("t-1", 1)]
        assert world.agent.phase is Phase.SEARCHING
        world.network.nodes[A] = node
        await asyncio.sleep(15)
        assert list(leader.registrations[-1].held) == [pb.Attempt(task_id="t-1", attempt=1)]
        assert world.agent.phase is Phase.ONLINE

    play(one_leader(leaders), story)


def test_a_draining_worker_receives_no_tasks_and_sends_heartbeats() -> None:
    """The stream is closed at once, heartbeats keep the lease until the last proof is reported."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.assign("t-1")
        await asyncio.sleep(1.2)
        draining = asyncio.create_task(world.agent.drain(30))
        await asyncio.sleep(0.1)
        assert (leader.open, world.agent.phase) == (0, Phase.DRAINING)
        await asyncio.sleep(1.5)
        assert list(leader.heartbeats[-1].held) == [pb.Attempt(task_id="t-1", attempt=1)]
        await draining
        assert len(world.fixture.reporter.proofs) == 1
        assert len(leader.registrations) == 1

    play(one_leader(leaders), story)


def test_a_draining_worker_without_a_leader_ends_at_once() -> None:
    """Without a leader, a spooled proof does not prolong the drain."""
    leaders: list[Leader] = []

    async def story(world: World) -> None:
        (leader,) = leaders
        leader.assign("t-1")
        await asyncio.sleep(0.5)
        world.fixture.reporter.reachable.clear()
        del world.network.nodes[A]
        leader.stream.put_nowait(LOST)
        await asyncio.sleep(60)
        began = asyncio.get_running_loop().time()
        await world.agent.drain(30)
        assert asyncio.get_running_loop().time() == began
        assert list(world.fixture.store.stored) == [AttemptId("t-1", 1)]

    play(one_leader(leaders), story)


def test_a_draining_worker_opens_no_stream_at_a_new_leader() -> None:
    """After a failover it registers what it holds, and receives nothing."""
    leaders: list[Leader] = []

    def nodes() -> dict[str, Node]:
        leaders.extend((Leader(), Leader()))
        return {A: leaders[0].node(), B: follower(A)}

    async def story(world: World) -> None:
        old, new = leaders
        old.assign("t-1")
        await asyncio.sleep(1.2)
        draining = asyncio.create_task(world.agent.drain(60))
        world.network.nodes.update({A: follower(B), B: new.node()})
        old.heartbeat = not_leader(B)
        await draining
        assert [list(each.held) for each in new.registrations] == [[pb.Attempt(task_id="t-1", attempt=1)]]
        assert new.streams == 0

    play(nodes, story, seconds=10)


def test_a_new_certificate_is_used_without_registering_again() -> None:
    """A new channel and a new stream to the same leader; an assignment made in between is not lost by it."""
    leader = Leader()

    async def story(world: World) -> None:
        await asyncio.sleep(0.5)
        world.network.generation = 2
        world.agent.certificate_changed()
        await asyncio.sleep(0.5)
        assert (leader.streams, leader.open, len(leader.registrations)) == (2, 1, 1)
        assert [channel.retired for channel in world.network.channels] == [True, False]
        assert world.agent.phase is Phase.ONLINE
        leader.assign("t-1")
        await asyncio.sleep(5)
        assert leader.heartbeats
        assert [proof.id for proof in world.fixture.reporter.proofs] == [AttemptId("t-1", 1)]

    play(lambda: {A: leader.node()}, story)


def test_a_new_certificate_after_a_refusal_is_tried_at_once() -> None:
    """A worker whose certificate was revoked registers again as soon as it has a new one."""
    leader = Leader()
    leader.registration = CallFailed(grpc.StatusCode.UNAUTHENTICATED, "certificate is revoked")

    async def story(world: World) -> None:
        await asyncio.sleep(1)
        assert (world.agent.phase, len(leader.registrations)) == (Phase.REFUSED, 1)
        leader.registration = None
        world.network.generation = 2
        world.agent.certificate_changed()
        await asyncio.sleep(0.1)
        assert (world.agent.phase, len(leader.registrations)) == (Phase.ONLINE, 2)

    play(lambda: {A: leader.node()}, story)


def test_a_new_certificate_does_not_hide_that_the_leader_has_changed() -> None:
    """The next leader receives all held attempts, as usual."""
    first, second = Leader(), Leader()

    async def story(world: World) -> None:
        await asyncio.sleep(0.5)
        world.network.nodes |= {A: follower(B), B: second.node()}
        world.network.generation = 2
        world.agent.certificate_changed()
        await asyncio.sleep(0.5)
        assert (len(first.registrations), len(second.registrations), second.open) == (1, 1, 1)

    play(lambda: {A: first.node()}, story)
