"""Submissions: what is accepted, under which id, and what repeating one means."""

import asyncio
import json

import pytest

from gateway.config import RateSettings
from tests.integration.gateway.conftest import Running, Serve
from zkp.client.errors import Exhausted, InvalidSubmission, NoLeader, Refused
from zkp.proofs import circuits

MERKLE = {"leaves": [11, "22", "0x21"], "leaf_index": 2}
RANGE = {"value": 42, "min": 18, "max": 120, "blinding": 7}
ADDITION = {"a": 20, "b": "22"}


@pytest.mark.parametrize(
    ("page", "circuit", "request_"),
    [("merkle", "merkle_proof", MERKLE), ("range", "range_proof", RANGE), ("addition", "addition", ADDITION)],
)
async def test_each_circuit_has_its_endpoint(
    running: Running, page: str, circuit: str, request_: dict[str, object]
) -> None:
    """The coordinators get the prepared signals, the caller an id and a link."""
    answer = await running.caller().post(f"/api/v1/tasks/{page}", request_)
    expected = circuits.prepare(circuit, request_)
    (submission,) = running.network.submissions
    assert answer.status == 202
    assert answer.headers["Location"] == f"/api/v1/tasks/{answer.body['id']}"
    assert (submission.task_id, submission.circuit) == (answer.body["id"], circuit)
    assert (submission.inputs, submission.public_inputs) == (expected.inputs, expected.public_inputs)
    assert answer.body["public_inputs"] == list(expected.public_inputs)
    assert "blinding" not in answer.body


async def test_the_general_endpoint_accepts_every_circuit(running: Running) -> None:
    """With a number of retries, if the caller wants another than usual."""
    caller = running.caller()
    for retries, (circuit, known) in enumerate(circuits.CATALOGUE.items()):
        document = {"circuit": circuit, "inputs": dict(known.sample), "max_retries": retries}
        assert (await caller.post("/api/v1/tasks", document)).status == 202
    assert [submission.circuit for submission in running.network.submissions] == list(circuits.NAMES)
    assert [submission.max_retries for submission in running.network.submissions] == [0, 1, 2]


async def test_a_whole_burst_is_accepted(serve: Serve) -> None:
    """A burst within the rate limit never gets BUSY."""
    rate = RateSettings()
    running = await serve(rate=rate)
    caller = running.caller()
    work = [caller.post("/api/v1/tasks/addition", {"a": a, "b": 2}) for a in range(rate.burst)]
    assert [answer.status for answer in await asyncio.gather(*work)] == [202] * rate.burst


async def test_without_a_key_each_request_is_a_task(running: Running) -> None:
    """Two equal requests are two tasks with unguessable ids."""
    caller = running.caller()
    ids = {(await caller.post("/api/v1/tasks/addition", ADDITION)).body["id"] for _ in range(2)}
    assert len(ids) == 2


async def test_a_repeated_key_returns_the_same_task(running: Running) -> None:
    """However the same numbers are written."""
    caller, key = running.caller(), {"Idempotency-Key": "order-17"}
    first = await caller.post("/api/v1/tasks/addition", {"a": 20, "b": 22}, headers=key)
    again = await caller.post("/api/v1/tasks/addition", {"b": "22", "a": "0x14"}, headers=key)
    assert [first.status, again.status] == [202, 202]
    assert first.body["id"] == again.body["id"]
    assert [first.body["duplicate"], again.body["duplicate"]] == [False, True]
    assert len(running.network.submissions) == 1


async def test_a_key_with_another_body_is_a_conflict(running: Running) -> None:
    """And changes nothing."""
    caller, key = running.caller(), {"Idempotency-Key": "order-17"}
    await caller.post("/api/v1/tasks/addition", {"a": 1, "b": 2}, headers=key)
    answer = await caller.post("/api/v1/tasks/addition", {"a": 1, "b": 3}, headers=key)
    assert (answer.status, answer.problem, answer.body["field"]) == (
        409,
        "idempotency-key-reused",
        "Idempotency-Key",
    )
    assert len(running.network.submissions) == 1


async def test_callers_do_not_share_keys(running: Running) -> None:
    """Two callers that choose the same key have separate tasks."""
    key = {"Idempotency-Key": "order-17"}
    ids = {
        (await running.caller(name).post("/api/v1/tasks/addition", ADDITION, headers=key)).body["id"]
        for name in ("alice", "bob")
    }
    assert len(ids) == 2


async def test_a_generated_blinding_is_returned_once(running: Running) -> None:
    """Only in the response; the caller opens the commitment with it."""
    caller = running.caller()
    document = {name: RANGE[name] for name in ("value", "min", "max")}
    answer = await caller.post("/api/v1/tasks/range", document)
    opened = circuits.prepare("range_proof", {**document, "blinding": answer.body["blinding"]})
    assert answer.body["public_inputs"] == list(opened.public_inputs)
    shown = await caller.get(answer.headers["Location"])
    assert answer.body["blinding"] not in json.dumps(shown.body)


async def test_a_key_without_a_blinding_is_refused(running: Running) -> None:
    """It could not be repeated."""
    document = {name: RANGE[name] for name in ("value", "min", "max")}
    answer = await running.caller().post("/api/v1/tasks/range", document, headers={"Idempotency-Key": "order-17"})
    assert (answer.status, answer.body["field"]) == (400, "blinding")


async def test_errors_of_the_coordinators_are_passed_on(running: Running) -> None:
    """With Retry-After where a retry can succeed, and never as an internal error."""
    caller = running.caller()
    for error, status, retry_after in (
        (Exhausted("backlog", 7.0), 503, "7"),
        (NoLeader("nobody", {}), 503, "2"),
        (Refused("not this role"), 502, None),
        (InvalidSubmission("must be at most 10", "max_retries"), 400, None),
    ):
        running.network.error = error
        answer = await caller.post("/api/v1/tasks/addition", ADDITION)
        assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.body["field"] == "max_retries"
