"""Bodies are read on other processes: bounded, fair, and replaced when one is lost."""

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
async def narrow() -> AsyncIterator[SubmissionPool]:
    """One process, four places."""
    made = SubmissionPool(1, 4)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def stopped(narrow: SubmissionPool) -> Iterator[psutil.Process]:
    """That process, which does not go on before a test lets it."""
    (process,) = (psutil.Process(number) for number in narrow._pool.executor._processes)
    process.suspend()
    yield process
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


async def prepare(narrow: SubmissionPool, caller: str) -> PreparedRequest:
    """Prepare something."""
    with narrow.place(caller) as place:
        return await place.submission(SUM, "addition", keyed=False)


def begin(narrow: SubmissionPool, caller: str) -> asyncio.Task[PreparedRequest]:
    """Begin to prepare something."""
    return asyncio.create_task(prepare(narrow, caller))


async def refusal(narrow: SubmissionPool, caller: str) -> ApiProblem:
    """What one more body is told."""
    with pytest.raises(ApiProblem) as caught:
        await prepare(narrow, caller)
    return caught.value


async def test_a_caller_has_half_of_the_places_and_all_callers_have_all(
    narrow: SubmissionPool, stopped: psutil.Process
) -> None:
    """One caller's long lists leave room for others; what does not fit is told to come again."""
    begun = [begin(narrow, caller) for caller in ("alice", "alice")]
    await asyncio.sleep(0)
    theirs = await refusal(narrow, "alice")
    begun += [begin(narrow, caller) for caller in ("bob", "carol")]
    await asyncio.sleep(0)
    everybodys = await refusal(narrow, "dave")
    assert [theirs.kind, everybodys.kind] == [BUSY, BUSY]
    assert "Retry-After" in everybodys.headers
    stopped.resume()
    assert {(await work).public_inputs for work in begun} == {("3",)}
    assert narrow.held == 0


async def test_one_callers_bodies_do_not_hold_up_anothers(narrow: SubmissionPool, stopped: psutil.Process) -> None:
    """Each caller has one at a time in hand; whoever comes second comes before the first one's second."""
    order: list[str] = []

    async def noted(caller: str) -> None:
        await prepare(narrow, caller)
        order.append(caller)

    begun = [asyncio.create_task(noted(caller)) for caller in ("alice", "alice", "bob")]
    await asyncio.sleep(0)
    stopped.resume()
    await asyncio.gather(*begun)
    assert order == ["alice", "bob", "alice"]


async def test_a_caller_that_goes_keeps_its_place_until_the_work_ends(
    narrow: SubmissionPool, stopped: psutil.Process
) -> None:
    """Hanging up and asking again gains nothing."""
    begun = [begin(narrow, "alice") for _ in range(2)]
    await asyncio.sleep(0)
    begun[0].cancel()
    await asyncio.gather(begun[0], return_exceptions=True)
    assert narrow.held == 2
    assert (await refusal(narrow, "alice")).kind is BUSY
    stopped.resume()
    await begun[1]
    assert narrow.held == 0


async def test_a_lost_process_is_replaced(narrow: SubmissionPool, stopped: psutil.Process) -> None:
    """Whoever was with it is told to come again, and can."""
    work = begin(narrow, "alice")
    await asyncio.sleep(0)
    stopped.kill()
    with pytest.raises(ApiProblem) as caught:
        await work
    assert caught.value.kind is BUSY
    assert (await begin(narrow, "alice")).public_inputs == ("3",)


async def test_the_signals_of_a_stop_do_not_end_the_processes(
    narrow: SubmissionPool, stopped: psutil.Process
) -> None:
    """A terminal and a service manager signal the whole group; the gateway still answers what was begun."""
    work = begin(narrow, "alice")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        stopped.send_signal(number)
    stopped.resume()
    assert (await work).public_inputs == ("3",)


async def test_others_are_answered_while_a_body_is_prepared(
    serve: Serve, narrow: SubmissionPool, stopped: psutil.Process
) -> None:
    """The event loop never waits for a tree."""
    running = await serve(prepared_by=narrow)
    caller = running.caller()
    long = asyncio.create_task(caller.post("/api/v1/tasks/addition", {"a": 1, "b": 2}))
    answers = [await caller.get("/health") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert not long.done()
    stopped.resume()
    assert (await long).status == 202


async def test_a_full_gateway_says_when_to_come_again(
    serve: Serve, narrow: SubmissionPool, stopped: psutil.Process
) -> None:
    """503, and nothing is queued without bound."""
    running = await serve(prepared_by=narrow)
    begun = [begin(narrow, caller) for caller in ("a", "a", "b", "b")]
    await asyncio.sleep(0)
    answer = await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})
    assert (answer.status, answer.problem, answer.headers["Retry-After"]) == (503, "busy", "2")
    stopped.resume()
    await asyncio.gather(*begun)
    assert (await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})).status == 202


async def test_a_body_that_is_still_arriving_has_a_place(serve: Serve, narrow: SubmissionPool) -> None:
    """Memory is bounded from a body's first byte on; a caller that hangs up makes room."""
    running = await serve(prepared_by=narrow)
    head = b"POST /api/v1/tasks/addition HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
    context = running.caller().context
    for _ in range(2):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
        writer.write(head + b"Content-Length: 16\r\n\r\n{")
        await eventually(lambda: narrow.held == 1)
        writer.transport.abort()
        await eventually(lambda: narrow.held == 0)


async def test_processes_end_with_the_pool() -> None:
    """Closing leaves none behind."""
    made = SubmissionPool(2, 4)
    await made.start()
    processes = [psutil.Process(process) for process in made._pool.executor._processes]
    await made.close()
    assert len(processes) == 2
    assert not any(process.is_running() for process in processes)


async def test_closing_does_not_wait_for_work_that_nobody_waits_for() -> None:
    """A list of ten seconds does not hold up a stop."""
    made = SubmissionPool(1, 4)
    await made.start()
    leaves = b",".join(b"%d" % leaf for leaf in range(65_536, 131_072))
    with made.place("alice") as place:
        body = b'{"leaf_index": 0, "leaves": [' + leaves + b"]}"
        work = asyncio.create_task(place.submission(body, "merkle_proof", keyed=False))
        await asyncio.sleep(0.1)
        await made.close()
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
    assert isinstance(outcome, ApiProblem | asyncio.CancelledError)
