"""The submission pool: bounded, fair, and restarted when it loses a process."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from gateway.problems import BUSY, ApiProblem
from gateway.requests import PreparedRequest
from gateway.submission_pool import SubmissionPool
from tests.integration.gateway.conftest import Serve, eventually

SUM = b'{"a": 1, "b": 2}'


@pytest.fixture
async def pool() -> AsyncIterator[SubmissionPool]:
    """A pool with one process and a capacity of four bodies."""
    created = SubmissionPool(1, 4)
    await created.start()
    yield created
    await created.close()


@pytest.fixture
def suspended(pool: SubmissionPool) -> Iterator[psutil.Process]:
    """The pool's process, suspended until a test resumes it."""
    (process,) = (psutil.Process(number) for number in pool._pool.executor._processes)
    process.suspend()
    yield process
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


async def prepare(pool: SubmissionPool, caller: str) -> PreparedRequest:
    """Prepare a submission."""
    with pool.reserve(caller) as reservation:
        return await reservation.prepare(SUM, "addition", keyed=False)


def begin(pool: SubmissionPool, caller: str) -> asyncio.Task[PreparedRequest]:
    """Start to prepare a submission."""
    return asyncio.create_task(prepare(pool, caller))


async def refusal(pool: SubmissionPool, caller: str) -> ApiProblem:
    """Return the problem for one more body."""
    with pytest.raises(ApiProblem) as caught:
        await prepare(pool, caller)
    return caught.value


async def test_one_caller_gets_half_of_the_capacity(pool: SubmissionPool, suspended: psutil.Process) -> None:
    """One caller leaves capacity for others; excess requests get Retry-After."""
    begun = [begin(pool, caller) for caller in ("alice", "alice")]
    await asyncio.sleep(0)
    theirs = await refusal(pool, "alice")
    begun += [begin(pool, caller) for caller in ("bob", "carol")]
    await asyncio.sleep(0)
    everybodys = await refusal(pool, "dave")
    assert [theirs.kind, everybodys.kind] == [BUSY, BUSY]
    assert "Retry-After" in everybodys.headers
    suspended.resume()
    assert {(await work).public_inputs for work in begun} == {("3",)}
    assert pool.bodies == 0


async def test_one_callers_bodies_do_not_delay_anothers(pool: SubmissionPool, suspended: psutil.Process) -> None:
    """One body per caller is processed at a time, so the second caller precedes the first caller's second body."""
    order: list[str] = []

    async def noted(caller: str) -> None:
        await prepare(pool, caller)
        order.append(caller)

    begun = [asyncio.create_task(noted(caller)) for caller in ("alice", "alice", "bob")]
    await asyncio.sleep(0)
    suspended.resume()
    await asyncio.gather(*begun)
    assert order == ["alice", "bob", "alice"]


async def test_a_disconnected_caller_keeps_its_reservation_until_the_work_ends(
    pool: SubmissionPool, suspended: psutil.Process
) -> None:
    """Disconnecting and retrying gains nothing."""
    begun = [begin(pool, "alice") for _ in range(2)]
    await asyncio.sleep(0)
    begun[0].cancel()
    await asyncio.gather(begun[0], return_exceptions=True)
    assert pool.bodies == 2
    assert (await refusal(pool, "alice")).kind is BUSY
    suspended.resume()
    await begun[1]
    assert pool.bodies == 0


async def test_a_lost_process_is_replaced(pool: SubmissionPool, suspended: psutil.Process) -> None:
    """The affected caller gets a retryable problem, and the retry succeeds."""
    work = begin(pool, "alice")
    await asyncio.sleep(0)
    suspended.kill()
    with pytest.raises(ApiProblem) as caught:
        await work
    assert caught.value.kind is BUSY
    assert (await begin(pool, "alice")).public_inputs == ("3",)


async def test_the_signals_of_a_stop_do_not_end_the_processes(
    pool: SubmissionPool, suspended: psutil.Process
) -> None:
    """A terminal and a service manager signal the whole group; the gateway still answers running requests."""
    work = begin(pool, "alice")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        suspended.send_signal(number)
    suspended.resume()
    assert (await work).public_inputs == ("3",)


async def test_others_are_answered_while_a_body_is_prepared(
    serve: Serve, pool: SubmissionPool, suspended: psutil.Process
) -> None:
    """The event loop never waits for a Merkle tree."""
    running = await serve(prepared_by=pool)
    caller = running.caller()
    long = asyncio.create_task(caller.post("/api/v1/tasks/addition", {"a": 1, "b": 2}))
    answers = [await caller.get("/health") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert not long.done()
    suspended.resume()
    assert (await long).status == 202


async def test_an_overloaded_gateway_sends_retry_after(
    serve: Serve, pool: SubmissionPool, suspended: psutil.Process
) -> None:
    """503, and nothing is queued without bound."""
    running = await serve(prepared_by=pool)
    begun = [begin(pool, caller) for caller in ("a", "a", "b", "b")]
    await asyncio.sleep(0)
    answer = await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})
    assert (answer.status, answer.problem, answer.headers["Retry-After"]) == (503, "busy", "2")
    suspended.resume()
    await asyncio.gather(*begun)
    assert (await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})).status == 202


async def test_a_body_in_transit_is_counted(serve: Serve, pool: SubmissionPool) -> None:
    """Memory is bounded from a body's first byte on; a disconnecting caller frees its share."""
    running = await serve(prepared_by=pool)
    head = b"POST /api/v1/tasks/addition HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
    context = running.caller().context
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
        writer.write(head + b"Content-Length: 16\r\n\r\n{")
        await eventually(lambda: pool.bodies == 1)
        writer.transport.abort()
        await eventually(lambda: pool.bodies == 0)


async def test_processes_end_with_the_pool() -> None:
    """Closing leaves none behind."""
    created = SubmissionPool(2, 4)
    await created.start()
    processes = [psutil.Process(process) for process in created._pool.executor._processes]
    await created.close()
    assert len(processes) == 2
    assert not any(process.is_running() for process in processes)


async def test_closing_does_not_wait_for_abandoned_work() -> None:
    """A list that takes ten seconds does not delay a stop."""
    created = SubmissionPool(1, 4)
    await created.start()
    leaves = b",".join(b"%d" % leaf for leaf in range(65_536, 131_072))
    with created.reserve("alice") as reservation:
        body = b'{"leaf_index": 0, "leaves": [' + leaves + b"]}"
        work = asyncio.create_task(reservation.prepare(body, "merkle_proof", keyed=False))
        await asyncio.sleep(0.1)
        await created.close()
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
    assert isinstance(outcome, ApiProblem | asyncio.CancelledError)
