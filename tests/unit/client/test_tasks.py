"""The task API, against doubles in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.unit.client.network import A, B, C, Network, Node, follower, not_leader
from tests.unit.client.virtual_time import run
from zkp.client.errors import ClientError, Conflict, Exhausted, InvalidSubmission, NoLeader, NotFound, ServerFault
from zkp.client.failures import CallFailed
from zkp.client.model import Accepted, Submission, TaskState
from zkp.client.streaming import StreamingTaskClient
from zkp.client.tasks import TaskClient
from zkp.protocol.v1 import coordinator_pb2 as pb

LOST = CallFailed(grpc.StatusCode.UNAVAILABLE, "connection lost")


def task(task_id: str, state: Any = pb.TASK_STATE_PENDING, revision: int = 1) -> pb.Task:
    return pb.Task(id=task_id, state=state, revision=revision)


def submission(number: int) -> Submission:
    return Submission(f"t-{number}", "addition", b"{}", ("5",))


class Acceptor:
    """A leader's submission stream; it breaks once after `breaks` answers."""

    def __init__(self, *, breaks: int | None = None) -> None:
        self.breaks = breaks
        self.seen: list[str] = []
        self.accepted: set[str] = set()
        self.streams = 0
        self.broken = asyncio.Event()

    async def stream(self, requests: AsyncIterator[pb.SubmitTasksRequest]) -> AsyncIterator[pb.SubmitTasksResponse]:
        self.streams += 1
        async for request in requests:
            if self.breaks is not None and len(self.seen) + len(request.submissions) > self.breaks:
                self.breaks = None
                self.broken.set()
                raise LOST
            yield await self.together(request)

    def node(self) -> Node:
        """Return a leader with this behaviour."""
        return Node(StreamBatches=self.stream, SubmitTasks=self.together)

    async def together(self, request: pb.SubmitTasksRequest) -> pb.SubmitTasksResponse:
        self.seen.extend(message.task_id for message in request.submissions)
        return pb.SubmitTasksResponse(results=[self.answer(message) for message in request.submissions])

    def answer(self, message: pb.Submission) -> pb.SubmitResult:
        duplicate = message.task_id in self.accepted
        self.accepted.add(message.task_id)
        return pb.SubmitResult(accepted=pb.SubmitTaskResponse(task=task(message.task_id), duplicate=duplicate))


class Refuser(Acceptor):
    """Rejects the given task ids, `times` times."""

    def __init__(self, refusals: dict[str, pb.Refusal], *, times: int = 10**9) -> None:
        super().__init__()
        self.refusals = refusals
        self.times = times

    def answer(self, message: pb.Submission) -> pb.SubmitResult:
        if message.task_id in self.refusals and self.times > 0:
            self.times -= 1
            return pb.SubmitResult(refused=self.refusals[message.task_id])
        return super().answer(message)


def submit_many(network: Network, count: int, *, window: int = 4, timeout: float = 15.0) -> list[Any]:
    """Return the outcomes of `count` submissions."""

    async def scenario() -> list[Any]:
        async with network.connect() as connection:
            client = TaskClient(connection, timeout=timeout)
            submissions = [submission(number) for number in range(count)]
            return [outcome async for outcome in client.submit_many(submissions, window=window)]

    return run(scenario())


def ids(outcomes: list[tuple[Submission, Accepted | ClientError]]) -> list[str]:
    """Return the ids of accepted tasks; every outcome must match its submission."""
    accepted = []
    for asked, outcome in outcomes:
        assert isinstance(outcome, Accepted), outcome
        assert outcome.task.id == asked.task_id
        accepted.append(outcome.task.id)
    return accepted


def test_many_submissions_come_back_in_order() -> None:
    """All use one stream, for any window."""
    acceptor = Acceptor()
    outcomes = submit_many(Network({A: acceptor.node()}), 25)
    assert ids(outcomes) == [f"t-{number}" for number in range(25)]
    assert acceptor.streams == 1


def test_the_window_bounds_what_is_unanswered() -> None:
    """At most `window` submissions are unanswered."""

    class Slow(Acceptor):
        most = 0

        async def stream(
            self, requests: AsyncIterator[pb.SubmitTasksRequest]
        ) -> AsyncIterator[pb.SubmitTasksResponse]:
            waiting: list[pb.SubmitTasksRequest] = []

            async def read() -> None:
                async for request in requests:
                    waiting.append(request)  # noqa: PERF401 - one by one, to see how many wait

            reading = asyncio.create_task(read())
            while len(self.accepted) < 20:
                await asyncio.sleep(1)
                self.most = max(self.most, sum(len(request.submissions) for request in waiting))
                yield await self.together(waiting.pop(0))
            reading.cancel()

    slow = Slow()
    assert len(submit_many(Network({A: slow.node()}), 20, window=4, timeout=60)) == 20
    assert slow.most == 4


def test_what_was_not_answered_is_sent_again_after_a_failover() -> None:
    """The new leader receives the unanswered submissions in order, and each is accepted once."""
    first, second = Acceptor(breaks=5), Acceptor()
    network = Network({A: first.node(), B: follower(A), C: follower(A)})

    async def fail_over() -> None:
        await first.broken.wait()
        network.nodes.update({A: follower(B), B: second.node(), C: follower(B)})

    async def scenario() -> list[Any]:
        async with network.connect() as connection:
            failing_over = asyncio.create_task(fail_over())
            submissions = [submission(number) for number in range(12)]
            outcomes = [outcome async for outcome in TaskClient(connection).submit_many(submissions, window=4)]
            await failing_over
            return outcomes

    assert ids(run(scenario())) == [f"t-{number}" for number in range(12)]
    assert len(first.seen) <= 5
    assert first.seen + second.seen == [f"t-{number}" for number in range(12)]


def test_a_refused_submission_stops_nothing() -> None:
    """Its error is yielded in its position, with the field."""
    bad = pb.Refusal(status="INVALID_ARGUMENT", message="inputs.a: too large", field="inputs.a")
    refuser = Refuser({"t-1": bad})
    outcomes = submit_many(Network({A: refuser.node()}), 3)
    assert [type(outcome) for _, outcome in outcomes] == [Accepted, InvalidSubmission, Accepted]
    assert outcomes[1][1].field == "inputs.a"


@pytest.mark.parametrize(
    "refusal",
    [
        pb.Refusal(status="UNAVAILABLE", message="outcome unknown: send the same id again"),
        pb.Refusal(status="FAILED_PRECONDITION", message="Not leader, connect to: 10.0.0.1:9090"),
        pb.Refusal(status="RESOURCE_EXHAUSTED", message="full"),
    ],
)
def test_a_transient_rejection_is_retried(refusal: pb.Refusal) -> None:
    """Unknown outcomes, lost leadership and a full queue are retried until the deadline."""
    refuser = Refuser({"t-1": refusal}, times=2)
    outcomes = submit_many(Network({A: refuser.node()}), 4)
    assert ids(outcomes) == ["t-0", "t-1", "t-2", "t-3"]


def test_a_retried_submission_does_not_delay_others() -> None:
    """A transiently failed submission is retried by itself while those behind it are accepted."""
    refuser = Refuser({"t-0": pb.Refusal(status="UNAVAILABLE", message="circuit: cannot be served now")})
    outcomes = submit_many(Network({A: refuser.node()}), 5, timeout=5.0)
    assert ids(outcomes[1:]) == ["t-1", "t-2", "t-3", "t-4"]
    assert isinstance(outcomes[0][1], NoLeader)


def test_a_shared_stream_submits_for_many() -> None:
    """Callers share one stream, and each receives its own outcome."""
    acceptor = Acceptor()
    node = acceptor.node()
    network = Network({A: node})

    async def scenario() -> list[Accepted]:
        async with network.connect() as connection, StreamingTaskClient(connection) as client:
            return await asyncio.gather(*(client.submit(submission(number)) for number in range(20)))

    assert [accepted.task.id for accepted in run(scenario())] == [f"t-{number}" for number in range(20)]
    assert [method for method, _ in node.requests] == ["SubmitTasks", "StreamBatches"]


def test_what_comes_together_shares_a_message() -> None:
    """While two messages are in flight, further submissions are batched into the next."""
    messages: list[int] = []

    class Slow(Acceptor):
        async def stream(
            self, requests: AsyncIterator[pb.SubmitTasksRequest]
        ) -> AsyncIterator[pb.SubmitTasksResponse]:
            async for request in requests:
                messages.append(len(request.submissions))
                await asyncio.sleep(1)
                yield await self.together(request)

    async def scenario() -> None:
        async with Network({A: Slow().node()}).connect() as connection, StreamingTaskClient(connection) as client:
            await client.submit(submission(0))
            await asyncio.gather(*(client.submit(submission(number)) for number in range(1, 601)))

    run(scenario())
    assert sum(messages) == 600
    assert max(messages) == 256
    assert len(messages) <= 4


@pytest.mark.parametrize("answers", [0, 2])
def test_answers_that_do_not_fit_are_an_error(answers: int) -> None:
    """A response with too few or too many results is an error of the coordinator."""

    class Wrong(Acceptor):
        async def stream(
            self, requests: AsyncIterator[pb.SubmitTasksRequest]
        ) -> AsyncIterator[pb.SubmitTasksResponse]:
            async for _ in requests:
                yield pb.SubmitTasksResponse(results=[pb.SubmitResult()] * answers)

    outcomes = submit_many(Network({A: Wrong().node()}), 2, window=1)
    assert [type(outcome) for _, outcome in outcomes] == [Accepted, ServerFault]


def test_a_full_network_is_an_outcome_at_the_deadline() -> None:
    """At the deadline the error carries the retry delay."""
    refuser = Refuser({"t-0": pb.Refusal(status="RESOURCE_EXHAUSTED", message="full")})
    ((_, outcome),) = submit_many(Network({A: refuser.node()}), 1, timeout=5.0)
    assert isinstance(outcome, Exhausted)


def test_without_a_leader_each_submission_ends_with_no_leader() -> None:
    """Each submission fails at its deadline, and the error lists the addresses tried."""
    outcomes = submit_many(Network({A: follower(None)}), 3, timeout=5.0)
    assert [type(outcome) for _, outcome in outcomes] == [NoLeader] * 3
    assert "not the leader; leader unknown" in str(outcomes[2][1])


def test_a_rejected_stream_fails_every_submission() -> None:
    """A rejected caller receives the error for each submission."""

    async def refuse(_: Any) -> pb.SubmitTasksResponse:
        raise CallFailed(grpc.StatusCode.PERMISSION_DENIED, "workers may not submit")

    outcomes = submit_many(Network({A: Node(SubmitTasks=refuse)}), 2)
    assert ["workers may not submit" in str(outcome) for _, outcome in outcomes] == [True, True]


def test_abandoning_the_outcomes_ends_the_stream() -> None:
    """Closing the generator ends the stream and its tasks."""
    acceptor = Acceptor()

    async def scenario() -> set[asyncio.Task[Any]]:
        async with Network({A: acceptor.node()}).connect() as connection:
            outcomes = TaskClient(connection).submit_many([submission(number) for number in range(100)])
            await anext(outcomes)
            await outcomes.aclose()
            return asyncio.all_tasks() - {asyncio.current_task()}

    assert run(scenario()) == set()


def watched(network: Network, task_id: str = "t-1") -> list[tuple[TaskState, int]]:
    """Return the states and revisions that a watch yields."""

    async def scenario() -> list[tuple[TaskState, int]]:
        async with network.connect() as connection:
            return [(seen.state, seen.revision) async for seen in TaskClient(connection).watch(task_id)]

    return run(scenario())


def versions(*messages: pb.Task, end: Exception | None = None) -> Any:
    async def watch(_: Any) -> AsyncIterator[pb.Task]:
        for message in messages:
            yield message
        if end is not None:
            raise end

    return watch


def test_a_watch_ends_with_the_final_state() -> None:
    """Each change is yielded once, and nothing after the final state."""
    network = Network(
        {
            A: Node(
                WatchTask=versions(
                    task("t-1", pb.TASK_STATE_PENDING, 1),
                    task("t-1", pb.TASK_STATE_ASSIGNED, 2),
                    task("t-1", pb.TASK_STATE_COMPLETED, 5),
                )
            )
        }
    )
    assert watched(network) == [(TaskState.PENDING, 1), (TaskState.ASSIGNED, 2), (TaskState.COMPLETED, 5)]


def test_a_watch_survives_a_failover_without_going_back() -> None:
    """A version that the new leader repeats is skipped."""
    network = Network(
        {
            A: Node(
                WatchTask=versions(
                    task("t-1", pb.TASK_STATE_PENDING, 1), task("t-1", pb.TASK_STATE_ASSIGNED, 4), end=LOST
                )
            ),
            B: follower(C),
            C: Node(
                WatchTask=versions(
                    task("t-1", pb.TASK_STATE_PENDING, 3),
                    task("t-1", pb.TASK_STATE_ASSIGNED, 4),
                    task("t-1", pb.TASK_STATE_FAILED, 6),
                )
            ),
        }
    )
    assert watched(network) == [(TaskState.PENDING, 1), (TaskState.ASSIGNED, 4), (TaskState.FAILED, 6)]


def test_a_watch_of_a_quiet_task_survives_too() -> None:
    """The search timeout starts when the leader fails, even after an hour without a change."""

    async def quiet(_: Any) -> AsyncIterator[pb.Task]:
        yield task("t-1", pb.TASK_STATE_PENDING, 1)
        await asyncio.sleep(3600)
        raise LOST

    network = Network(
        {A: Node(WatchTask=quiet), B: Node(WatchTask=versions(task("t-1", pb.TASK_STATE_COMPLETED, 2)))}
    )
    assert watched(network) == [(TaskState.PENDING, 1), (TaskState.COMPLETED, 2)]


@pytest.mark.parametrize("end", [None, LOST, not_leader(B)])
def test_a_stream_that_ends_early_is_opened_again(end: Exception | None) -> None:
    """A watch ends with a final state only; a stream that ends early is reopened."""
    network = Network(
        {
            A: Node(WatchTask=versions(task("t-1", pb.TASK_STATE_PENDING, 1), end=end)),
            B: Node(WatchTask=versions(task("t-1", pb.TASK_STATE_CANCELLED, 2))),
        }
    )
    assert watched(network) == [(TaskState.PENDING, 1), (TaskState.CANCELLED, 2)]


def test_watching_nothing_is_not_found() -> None:
    """An unknown task raises `NotFound`."""
    network = Network(
        {A: Node(WatchTask=versions(end=CallFailed(grpc.StatusCode.NOT_FOUND, "there is no task 't-1'")))}
    )
    with pytest.raises(NotFound, match="no task 't-1'"):
        watched(network)


def test_waiting_gives_the_final_task() -> None:
    """`wait` returns the last version that `watch` yields."""
    network = Network({A: Node(WatchTask=versions(task("t-1"), task("t-1", pb.TASK_STATE_COMPLETED, 2)))})

    async def scenario() -> Any:
        async with network.connect() as connection:
            return await TaskClient(connection).wait("t-1")

    assert run(scenario()).state is TaskState.COMPLETED


def test_a_listing_follows_its_pages() -> None:
    """Pages are fetched until there is no token or the limit is reached."""

    async def page(request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        first = int(request.page_token or 0)
        last = min(first + request.page_size, 2500)
        tasks = [task(f"t-{number}") for number in range(first, last)]
        return pb.ListTasksResponse(tasks=tasks, next_page_token=str(last) if last < 2500 else "")

    network = Network({A: Node(ListTasks=page)})

    async def scenario(limit: int | None) -> int:
        async with network.connect() as connection:
            seen = [found.id async for found in TaskClient(connection).list(limit=limit)]
            assert len(set(seen)) == len(seen)
            return len(seen)

    assert run(scenario(None)) == 2500
    assert run(scenario(1200)) == 1200
    assert run(scenario(0)) == 0


def test_a_listing_asks_for_what_was_wanted() -> None:
    """State and circuit are sent with every page request."""

    async def page(request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        assert (request.state, request.circuit, request.page_size) == (pb.TASK_STATE_FAILED, "addition", 7)
        return pb.ListTasksResponse(tasks=[task("t-1", pb.TASK_STATE_FAILED)])

    async def scenario() -> Any:
        async with Network({A: Node(ListTasks=page)}).connect() as connection:
            return await TaskClient(connection).page(state=TaskState.FAILED, circuit="addition", size=7)

    assert run(scenario()).next_token == ""


def test_a_submission_is_sent_as_it_is_and_a_cancellation_too() -> None:
    """Unary calls reach their RPCs and return values."""

    async def submit(request: pb.SubmitTaskRequest) -> pb.SubmitTaskResponse:
        return pb.SubmitTaskResponse(task=task(request.submission.task_id), duplicate=True)

    async def cancel(request: pb.CancelTaskRequest) -> pb.Task:
        raise CallFailed(grpc.StatusCode.FAILED_PRECONDITION, f"task {request.task_id} has completed")

    async def get(request: pb.GetTaskRequest) -> pb.Task:
        return task(request.task_id, pb.TASK_STATE_IN_PROGRESS)

    async def scenario() -> None:
        network = Network({A: Node(SubmitTask=submit, CancelTask=cancel, GetTask=get)})
        async with network.connect() as connection:
            client = TaskClient(connection)
            assert (await client.submit(submission(1))).duplicate
            assert (await client.get("t-1")).state is TaskState.IN_PROGRESS
            with pytest.raises(Conflict, match="t-1 has completed"):
                await client.cancel("t-1")

    run(scenario())
