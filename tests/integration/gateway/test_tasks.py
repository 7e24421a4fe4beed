"""Reading tasks: one, many, long polls, proofs, cancellation."""

import asyncio

import pytest

from tests.integration.gateway.caller import Caller
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.fake_network import PROOF
from zkp.client.model import TaskState
from zkp.proofs.document import document


async def submitted(caller: Caller, a: int = 1) -> str:
    """The id of a new task."""
    return str((await caller.post("/api/v1/tasks/addition", {"a": a, "b": 2})).body["id"])


async def test_a_task_is_shown_by_its_id(running: Running) -> None:
    """From the Location of its submission on."""
    caller = running.caller()
    task_id = await submitted(caller)
    answer = await caller.get(f"/api/v1/tasks/{task_id}")
    assert (answer.status, answer.body["id"], answer.body["state"]) == (200, task_id, "pending")
    assert answer.body["proof"] is None


async def test_a_completed_task_has_everything_for_verification(running: Running) -> None:
    """Its proof document is the file that `zkp verify` reads."""
    caller = running.caller()
    task_id = await submitted(caller)
    await running.network.change(task_id, TaskState.COMPLETED)
    task = (await caller.get(f"/api/v1/tasks/{task_id}")).body
    proof = (await caller.get(f"/api/v1/tasks/{task_id}/proof")).body
    assert proof == document(task_id, "addition", PROOF, ["3"], "ab" * 32)
    assert {name: task[name] for name in ("circuit", "proof", "public_inputs", "verifying_key_sha256")} == {
        name: proof[name] for name in ("circuit", "proof", "public_inputs", "verifying_key_sha256")
    }


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.FAILED, TaskState.CANCELLED])
async def test_a_task_without_a_proof_is_a_conflict(running: Running, state: TaskState) -> None:
    """A conflict with its state, which is named."""
    caller = running.caller()
    task_id = await submitted(caller)
    await running.network.change(task_id, state)
    answer = await caller.get(f"/api/v1/tasks/{task_id}/proof")
    assert (answer.status, answer.problem) == (409, "not-completed")
    assert state in answer.body["detail"]


@pytest.mark.parametrize("page", ["", "/proof"])
async def test_waiting_ends_when_the_task_does(running: Running, page: str) -> None:
    """The answer comes with the end, long before the time is over."""
    caller = running.caller()
    task_id = await submitted(caller)
    waiting = asyncio.create_task(caller.get(f"/api/v1/tasks/{task_id}{page}?wait=60"))
    await running.network.watched.wait()
    await running.network.change(task_id, TaskState.IN_PROGRESS)
    await running.network.change(task_id, TaskState.COMPLETED)
    async with asyncio.timeout(30):
        answer = await waiting
    assert (answer.status, answer.body["proof"]["protocol"]) == (200, "groth16")


async def test_a_wait_that_times_out_returns_the_current_task(running: Running) -> None:
    """A wait that times out is not an error."""
    caller = running.caller()
    task_id = await submitted(caller)
    answer = await caller.get(f"/api/v1/tasks/{task_id}?wait=1")
    assert (answer.status, answer.body["state"]) == (200, "pending")


async def test_long_polls_are_answered_when_the_gateway_stops(running: Running) -> None:
    """Long polls are answered, and the stop is not delayed."""
    caller = running.caller()
    task_id = await submitted(caller)
    waiting = asyncio.create_task(caller.get(f"/api/v1/tasks/{task_id}?wait=60"))
    await running.network.watched.wait()
    async with asyncio.timeout(30):
        await running.gateway.stop()
        answer = await waiting
    assert (answer.status, answer.body["state"]) == (200, "pending")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("task_id", ["nothing", "a%20b", "%00", "%ed%a0%80", "x" * 65, "..%2f..%2fhealth"])
async def test_an_unknown_id_is_not_found(running: Running, method: str, task_id: str) -> None:
    """Whether it could be one or not."""
    answer = await running.caller().call(method, f"/api/v1/tasks/{task_id}")
    assert (answer.status, answer.problem) == (404, "no-such-task")


async def test_cancelling_succeeds_and_succeeds_again(running: Running) -> None:
    """The same answer twice."""
    caller = running.caller()
    path = f"/api/v1/tasks/{await submitted(caller)}"
    answers = [await caller.call("DELETE", path) for _ in range(2)]
    assert [(answer.status, answer.body["state"]) for answer in answers] == [(200, "cancelled")] * 2


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED])
async def test_an_ended_task_cannot_be_cancelled(running: Running, state: TaskState) -> None:
    """Its result stands."""
    caller = running.caller()
    task_id = await submitted(caller)
    await running.network.change(task_id, state)
    answer = await caller.call("DELETE", f"/api/v1/tasks/{task_id}")
    assert (answer.status, answer.problem) == (409, "task-ended")
    assert (await caller.get(f"/api/v1/tasks/{task_id}")).body["state"] == state


async def test_pages_hold_every_task_once(running: Running) -> None:
    """Newest first, however they are cut."""
    caller = running.caller()
    ids = [await submitted(caller, a) for a in range(7)]
    listed, query = [], "page_size=3"
    while query:
        page = (await caller.get(f"/api/v1/tasks?{query}")).body
        listed += [task["id"] for task in page["tasks"]]
        token = page["next_page_token"]
        query = f"page_size=3&page_token={token}" if token else ""
    assert listed == ids[::-1]


async def test_lists_are_filtered(running: Running) -> None:
    """By state and by circuit."""
    caller = running.caller()
    ids = [await submitted(caller, a) for a in range(3)]
    await running.network.change(ids[1], TaskState.FAILED)
    for query, expected in (
        ("state=failed", ids[1:2]),
        ("circuit=addition&state=pending", [ids[2], ids[0]]),
        ("circuit=range_proof", []),
    ):
        page = (await caller.get(f"/api/v1/tasks?{query}")).body
        assert [task["id"] for task in page["tasks"]] == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=done", "state"),
        ("page_size=0", "page_size"),
        ("page_token=%ff", "page_token"),
        ("page_token=no-such-page", "page_token"),
        ("circuit=merkle", "circuit"),
        ("stat=failed", "stat"),
        ("state=failed&state=pending", "state"),
    ],
)
async def test_a_wrong_filter_is_named(running: Running, query: str, field: str) -> None:
    """Nothing is silently left out."""
    answer = await running.caller().get(f"/api/v1/tasks?{query}")
    assert (answer.status, answer.body["field"]) == (400, field)
