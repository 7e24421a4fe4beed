"""Leader discovery and failover, in virtual time."""

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


def test_a_redirect_is_followed_and_stored() -> None:
    """The second call is sent to the leader directly."""
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
    """A coordinator that is not configured is found through the others."""
    network = Network({A: follower("10.0.0.9:9090"), "10.0.0.9:9090": answering("new")})

    async def scenario() -> Any:
        async with network.connect(A) as connection:
            return await ask(connection)

    assert run(scenario()) == "new"


def test_a_dead_leader_is_left_for_the_new_one() -> None:
    """The search continues while followers name the dead leader, and ends once they have elected another."""
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


def test_a_stopped_leader_does_not_use_up_the_deadline() -> None:
    """A leader that does not respond is abandoned after a few seconds for the newly elected one."""

    async def hang(_: Any) -> str:
        await asyncio.sleep(3600)
        return "late"

    network = Network({A: Node(GetTask=hang), B: answering("B")})

    async def scenario() -> Any:
        async with network.connect(A, B) as connection:
            return await ask(connection, timeout=30.0)

    assert run(scenario()) == "B"


def test_the_deadline_ends_the_search() -> None:
    """`NoLeader` is raised at the caller's deadline, with each address's result and what to do."""
    network = Network({A: follower(None), B: follower(C)})

    async def scenario() -> float:
        async with network.connect() as connection:
            with pytest.raises(NoLeader) as caught:
                await ask(connection, timeout=7.0)
            message = str(caught.value)
            assert f"{A}: not the leader; leader unknown" in message
            assert f"{C}: connection refused" in message
            assert "within 7 s" in message
            assert "\n" not in message
            assert set(caught.value.tried) == {A, B, C}
            return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(7.0, abs=0.01)


def test_a_search_is_no_busy_loop() -> None:
    """In 10 s without a leader each address is tried a few dozen times, not thousands."""
    network = Network({A: follower(None), B: follower(None), C: follower(None)})

    async def scenario() -> None:
        async with network.connect() as connection:
            with pytest.raises(NoLeader):
                await ask(connection, timeout=10.0)

    run(scenario())
    assert 5 < len(network.nodes[A].requests) < 40


def test_permanent_failures_everywhere_end_the_search() -> None:
    """If every handshake fails permanently, the error is raised before the deadline."""
    network = Network({})
    network.refusals = {
        address: DialFailed("server certificate rejected: expired", permanent=True) for address in (A, B, C)
    }

    async def scenario() -> float:
        async with network.connect() as connection:
            with pytest.raises(Untrusted, match=r"expired.*certificate files"):
                await ask(connection)
            return asyncio.get_running_loop().time()

    assert run(scenario()) == 0.0


def test_a_permanent_failure_of_one_node_does_not_end_the_search() -> None:
    """The search continues among the others."""
    network = Network({B: follower(C), C: answering("C")})
    network.refusals = {A: DialFailed("spiffe://zkp.local/worker/worker-1 is not a coordinator", permanent=True)}

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
    """A final error is not retried, at this node or another."""
    network = Network({A: failing(code, "because"), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            with pytest.raises(error, match="because"):
                await ask(connection)

    run(scenario())
    assert len(network.nodes[A].requests) == 1
    assert network.dialled == [A]


def test_a_task_conflict_is_not_taken_for_a_redirect() -> None:
    """FAILED_PRECONDITION means "not leader" only with the metadata or the specified text."""
    network = Network({A: failing(grpc.StatusCode.FAILED_PRECONDITION, "task t-1 has completed"), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            with pytest.raises(Conflict, match="has completed"):
                await ask(connection)

    run(scenario())


def test_the_field_and_the_wait_come_with_the_error() -> None:
    """Trailing metadata becomes attributes, and the field is not repeated in the message."""
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
    """100 concurrent calls connect to the leader once."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            assert await asyncio.gather(*(ask(connection) for _ in range(100))) == ["A"] * 100

    run(scenario())
    assert network.dialled == [A]


def test_reloaded_credentials_open_a_new_channel() -> None:
    """After a reload the next call uses a new channel; the old one is drained."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            await ask(connection)
            network.generation = 2
            await ask(connection)
            old, new = network.channels
            assert (old.retired, old.closed) == (True, False)
            assert not new.retired

    run(scenario())


def test_refresh_retires_only_what_is_outdated() -> None:
    """Channels are retired only after a reload."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            await ask(connection)
            connection.refresh()
            assert not network.channels[0].retired
            network.generation = 2
            connection.refresh()
            assert network.channels[0].retired

    run(scenario())


def test_closing_closes_every_channel() -> None:
    """Closing the connection closes every channel."""
    network = Network({A: follower(B), B: answering("B")})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            await ask(connection)

    run(scenario())
    assert [channel.closed for channel in network.channels] == [True, True]


def test_a_cancelled_caller_leaves_the_handshake_to_the_others() -> None:
    """A cancelled caller does not cancel the shared handshake."""
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
    """An address that is not HOST:PORT is rejected by the constructor."""
    with pytest.raises(InvalidAddress):
        Network({}).connect(*addresses)


def test_a_follower_that_knows_no_leader_is_retried() -> None:
    """Such a node is tried again later."""
    assert not_leader(None).not_leader


def test_the_timeout_starts_when_the_leader_fails() -> None:
    """The timeout starts when the leader fails, not when it was found."""
    network = Network({A: answering("A")})

    async def scenario() -> None:
        async with network.connect(A) as connection:
            retry = connection.retry(5.0)
            channel = await retry.channel()
            retry.reached(channel)
            await asyncio.sleep(3600)
            retry.failed(channel, stream_ended())
            assert retry.remaining() == pytest.approx(5.0)
            retry.failed(channel, stream_ended())
            await asyncio.sleep(1)
            retry.failed(channel, stream_ended())
            assert retry.remaining() == pytest.approx(4.0)

    run(scenario())


def test_a_certificate_that_was_replaced_may_be_refused_without_harm() -> None:
    """A call over an old channel is repeated over a new one to the same node, whose rejection is final."""
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
    assert network.channels[0].retired
