"""Finding the leader and following it, in virtual time."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.unit.client.network import A, B, C, Network, Node, follower, not_leader
from tests.unit.client.virtual_time import run
from zkp.client.errors import (
    AlreadyExists,
    ClientError,
    Conflict,
    Exhausted,
    InvalidAddress,
    InvalidSubmission,
    NoLeader,
    NotFound,
    Refused,
    ServerFault,
    Untrusted,
)
from zkp.client.failures import CallFailed, DialFailed, stream_ended
from zkp.client.leader import LeaderConnection


async def ask(connection: LeaderConnection, timeout: float = 10.0) -> Any:
    request: Any = "who are you?"
    return await connection.call(lambda stubs: stubs.tasks.GetTask, request, timeout=timeout)


def answering(text: str) -> Node:
    async def answer(_: Any) -> str:
        return text

    return Node(GetTask=answer)


def failing(code: grpc.StatusCode, details: str = "no", metadata: dict[str, str] | None = None) -> Node:
    async def answer(_: Any) -> str:
        raise CallFailed(code, details, metadata)

    return Node(GetTask=answer)


def test_a_redirect_is_followed_and_remembered() -> None:
    """The second call goes to the leader at once."""
    network = Network({A: follower(C), B: follower(C), C: answering("C")})

    async def scenario() -> None:
        async with network.connect() as connection:
            assert await ask(connection) == "C"
            assert await ask(connection) == "C"
            assert connection.leader == C

    run(scenario())
    assert network.dialled == [A, C]
    assert len(network.nodes[A].requests) == 1


def test_a_redirect_outside_the_configuration_is_followed() -> None:
    """A coordinator that was added later is found through the others."""
    network = Network({A: follower("10.0.0.9:9090"), "10.0.0.9:9090": answering("new")})

    async def scenario() -> Any:
        async with network.connect(A) as connection:
            return await ask(connection)

    assert run(scenario()) == "new"


def test_a_dead_leader_is_left_for_the_new_one() -> None:
    """While followers still name the dead leader the search goes on, and ends when they have elected another."""
    network = Network({A: follower(C), B: follower(C), C: answering("C")})

    async def scenario() -> Any:
        async with network.connect() as connection:
            await ask(connection)
            del network.nodes[C]
            asyncio.get_running_loop().call_later(0.4, network.nodes.update, {A: follower(B), B: answering("B")})
            answer = await ask(connection)
            return answer, asyncio.get_running_loop().time()

    answer, elapsed = run(scenario())
    assert answer == "B"
    assert 0.4 <= elapsed < 1.0


def test_a_stopped_leader_does_not_eat_the_whole_deadline() -> None:
    """A leader that answers nothing is left after a few seconds for the one elected meanwhile."""

    async def hang(_: Any) -> str:
        await asyncio.sleep(3600)
        return "late"

    network = Network({A: Node(GetTask=hang), B: answering("B")})

    async def scenario() -> Any:
        async with network.connect(A, B) as connection:
            return await ask(connection, timeout=30.0)

    assert run(scenario()) == "B"


def test_the_deadline_ends_the_search() -> None:
    """`NoLeader` comes when the caller's time is over, and says what each address answered and what to do."""
    network = Network({A: follower(None), B: follower(C)})

    async def scenario() -> float:
        async with network.connect() as connection:
            with pytest.raises(NoLeader) as caught:
                await ask(connection, timeout=7.0)
            message = str(caught.value)
            assert f"{A}: not the leader; it names none" in message
            assert f"{C}: connection refused" in message
            assert "within 7 s" in message
            assert "\n" not in message
            assert set(caught.value.tried) == {A, B, C}
            return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(7.0, abs=0.01)


def test_a_search_is_no_busy_loop() -> None:
    """In ten seconds without a leader each address is asked a few dozen times, not thousands."""
    network = Network({A: follower(None), B: follower(None), C: follower(None)})

    async def scenario() -> None:
        async with network.connect() as connection:
            with pytest.raises(NoLeader):
                await ask(connection, timeout=10.0)

    run(scenario())
    assert 5 < len(network.nodes[A].requests) < 40


def test_mistrust_everywhere_is_said_at_once() -> None:
    """When every handshake fails for good, waiting for the deadline would help nobody."""
    network = Network({})
    network.refusals = {
        address: DialFailed("its certificate is refused: expired", hopeless=True) for address in (A, B, C)
    }

    async def scenario() -> float:
        async with network.connect() as connection:
            with pytest.raises(Untrusted, match=r"expired.*certificate files"):
                await ask(connection)
            return asyncio.get_running_loop().time()

    assert run(scenario()) == 0.0


def test_mistrust_of_one_node_does_not_stop_the_search() -> None:
    """The others may still lead."""
    network = Network({B: follower(C), C: answering("C")})
    network.refusals = {A: DialFailed("spiffe://zkp.local/worker/worker-1 is not a coordinator", hopeless=True)}

    async def scenario() -> Any:
        async with network.connect() as connection:
            return await ask(connection)

    assert run(scenario()) == "C"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidSubmission),
        (grpc.StatusCode.PERMISSION_DENIED, Refused),
        (grpc.StatusCode.UNAUTHENTICATED, Refused),
        (grpc.StatusCode.ABORTED, Conflict),
        (grpc.StatusCode.FAILED_PRECONDITION, Conflict),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Exhausted),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.UNIMPLEMENTED, ServerFault),
    ],
)
def test_a_final_answer_is_raised_at_once(code: grpc.StatusCode, error: type[ClientError]) -> None:
    """What no retry can better is asked once, and only of one node."""
    network = Network({A: failing(code, "because"), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            with pytest.raises(error, match="because"):
                await ask(connection)

    run(scenario())
    assert len(network.nodes[A].requests) == 1
    assert network.dialled == [A]


def test_a_task_conflict_is_not_taken_for_a_redirect() -> None:
    """FAILED_PRECONDITION means "not leader" only with the metadata or the agreed words."""
    network = Network({A: failing(grpc.StatusCode.FAILED_PRECONDITION, "task t-1 has completed"), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            with pytest.raises(Conflict, match="has completed"):
                await ask(connection)

    run(scenario())


def test_the_field_and_the_wait_come_with_the_error() -> None:
    """Trailing metadata becomes attributes; the field is not said twice."""
    network = Network(
        {
            A: failing(
                grpc.StatusCode.INVALID_ARGUMENT, "submission.inputs: is not JSON", {"zkp-field": "submission.inputs"}
            ),
            B: failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", {"retry-after": "2.5"}),
        }
    )

    async def scenario() -> None:
        async with network.connect(A) as connection:
            with pytest.raises(InvalidSubmission) as invalid:
                await ask(connection)
            assert invalid.value.field == "submission.inputs"
            assert str(invalid.value) == "is not JSON"
        async with network.connect(B) as connection:
            with pytest.raises(Exhausted) as exhausted:
                await ask(connection)
            assert exhausted.value.retry_after == 2.5

    run(scenario())


def test_many_calls_share_one_handshake() -> None:
    """A hundred calls that start together dial the leader once."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            assert await asyncio.gather(*(ask(connection) for _ in range(100))) == ["A"] * 100

    run(scenario())
    assert network.dialled == [A]


def test_reloaded_credentials_bring_a_new_line() -> None:
    """After a reload the next call uses a new line, and the old one is retired, not cut."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            await ask(connection)
            network.generation = 2
            await ask(connection)
            old, new = network.lines
            assert (old.retired, old.closed) == (True, False)
            assert not new.retired

    run(scenario())


def test_refresh_retires_only_what_is_outdated() -> None:
    """Without a reload nothing is given up; after one, every old line is."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            await ask(connection)
            connection.refresh()
            assert not network.lines[0].retired
            network.generation = 2
            connection.refresh()
            assert network.lines[0].retired

    run(scenario())


def test_closing_closes_every_line() -> None:
    """No connection outlives its owner."""
    network = Network({A: follower(B), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            await ask(connection)

    run(scenario())
    assert [line.closed for line in network.lines] == [True, True]


def test_a_cancelled_caller_leaves_the_handshake_to_the_others() -> None:
    """Who gives up early does not take the shared dial with it."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            impatient = asyncio.create_task(ask(connection))
            patient = asyncio.create_task(ask(connection))
            await asyncio.sleep(0)
            impatient.cancel()
            assert await patient == "A"

    run(scenario())


@pytest.mark.parametrize("addresses", [("localhost",), ("unix:/x",), ("10.0.0.1:9090", "nonsense")])
def test_a_malformed_configuration_is_refused(addresses: tuple[str, ...]) -> None:
    """Every configured address is HOST:PORT, or there is no connection."""
    with pytest.raises(InvalidAddress):
        Network({}).connect(*addresses)


def test_the_refusal_of_a_follower_that_knows_no_leader_is_passing() -> None:
    """Such a node is asked again when it may know more."""
    assert not_leader(None).not_leader


def test_a_leader_that_served_for_hours_is_searched_for_anew() -> None:
    """The patience begins when it fails, not when it was found."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            route = connection.route(5.0)
            line = await route.line()
            route.reached(line)
            await asyncio.sleep(3600)
            route.failed(line, stream_ended())
            assert route.remaining() == pytest.approx(5.0)
            route.failed(line, stream_ended())
            await asyncio.sleep(1)
            route.failed(line, stream_ended())
            assert route.remaining() == pytest.approx(4.0)

    run(scenario())


def test_a_certificate_that_was_replaced_may_be_refused_without_harm() -> None:
    """A call over a line of before is made again over a new one, at the same node; a new one's refusal is final."""
    network = Network({A: Node()})
    refused_generations = {1}

    async def answer(_: Any) -> object:
        asked_with = network.generation
        network.generation = 2  # the files are read again while the call is under way
        if asked_with in refused_generations:
            raise CallFailed(grpc.StatusCode.UNAUTHENTICATED, "certificate is revoked")
        return asked_with

    network.nodes[A].handlers["GetTask"] = answer

    async def scenario() -> None:
        async with network.connect(A) as connection:
            assert await ask(connection) == 2
            refused_generations.add(2)
            with pytest.raises(Refused, match="revoked"):
                await ask(connection)

    run(scenario())
    assert network.dialled == [A, A]
    assert network.lines[0].retired
