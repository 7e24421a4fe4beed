"""Bad requests get a 4xx that names the field and the remedy, and change nothing."""

import io
import json
import logging

import pytest

from tests.integration.gateway.conftest import Running, Serve
from zkp.proofs.field import ORDER

TASKS = "/api/v1/tasks"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("page", "document", "field", "words"),
    [
        ("/merkle", {"leaves": [1, 2, 3], "leaf_index": 3}, "leaf_index", "below 3"),
        ("/merkle", {"leaves": [], "leaf_index": 0}, "leaves", "at least one"),
        ("/merkle", {"leaves": [1, str(ORDER)], "leaf_index": 0}, "leaves[1]", "field's order"),
        ("/merkle", {"leaves": [1], "leaf_index": 0, "depth": 20}, "depth", "unknown"),
        ("/range", {"value": 5, "min": 9, "max": 3}, "min", "above max"),
        ("/addition", {"a": 1, "b": 2, "c": 3}, "c", "unknown"),
        ("/addition", {"a": 1.5, "b": 2}, "a", "whole number"),
        ("", {"circuit": "merkle", "inputs": {}}, "circuit", "did you mean merkle_proof?"),
        ("", {"circuit": "addition", "inputs": {"a": 1}}, "inputs.b", "is missing"),
        ("", {"circuit": "addition", "input": {}}, "input", "did you mean 'inputs'?"),
    ],
)
async def test_an_invalid_field_is_named_with_the_remedy(
    running: Running, page: str, document: dict[str, object], field: str, words: str
) -> None:
    """The coordinators receive nothing."""
    answer = await running.caller().post(f"{TASKS}{page}", document)
    assert (answer.status, answer.problem, answer.body["field"]) == (400, "invalid-field", field)
    assert words in answer.body["detail"]
    assert running.network.submissions == []


@pytest.mark.parametrize("length", [1, 3, 5, 6, 7, 100])
async def test_lists_whose_length_is_no_power_of_two_work(running: Running, length: int) -> None:
    """Up to their last leaf."""
    document = {"leaves": list(range(1, length + 1)), "leaf_index": length - 1}
    assert (await running.caller().post(f"{TASKS}/merkle", document)).status == 202


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": 1, "b": }', "line 1, column 15"),
        (b"", "empty"),
        (b'{"a": 1, "a": 2, "b": 3}', '"a" is duplicated'),
        (b'{"a": NaN, "b": 3}', "NaN"),
        (b"[1, 2]", "a list"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a": ' + b"7" * 1_000_000 + b"}", "1000000 digits"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8"),
    ],
)
async def test_invalid_json_is_refused_with_its_position(running: Running, body: bytes, words: str) -> None:
    """Whatever the bytes, and without harm to the next request."""
    caller = running.caller()
    answer = await caller.call("POST", f"{TASKS}/addition", data=io.BytesIO(body), headers=JSON)
    assert (answer.status, answer.problem) == (400, "invalid-json")
    assert words in answer.body["detail"]
    assert (await caller.post(f"{TASKS}/addition", {"a": 1, "b": 2})).status == 202


async def test_a_body_of_seven_megabytes_is_too_large(running: Running) -> None:
    """The limit is named, whether the length is announced or found out."""

    async def chunks() -> object:
        for _ in range(70):
            yield b" " * 100_000

    caller = running.caller()
    for data in (io.BytesIO(b" " * 7_000_000), chunks()):
        answer = await caller.call("POST", f"{TASKS}/merkle", data=data, headers=JSON)
        assert (answer.status, answer.problem) == (413, "body-too-large")
        assert "6000000 bytes" in answer.body["detail"]


async def test_a_body_up_to_the_limit_is_read(serve: Serve) -> None:
    """And one byte more is not; the limit is a setting."""
    running = await serve(max_body=1000)
    body = json.dumps({"a": 1, "b": 2}).encode()
    for size, status in ((1000, 202), (1001, 413)):
        answer = await running.caller().call("POST", f"{TASKS}/addition", data=body.ljust(size), headers=JSON)
        assert answer.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "br"},
        {**JSON, "Content-Encoding": "zstd"},
        {**JSON, "Content-Encoding": "unknown"},
    ],
)
async def test_other_media_types_are_refused(running: Running, headers: dict[str, str]) -> None:
    """Also compressed bodies: what they grow to is not known beforehand."""
    answer = await running.caller().call("POST", f"{TASKS}/addition", data=b"{}", headers=headers)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


@pytest.mark.parametrize("path", [TASKS, "/health", "/nothing"])
async def test_an_expectation_other_than_continue_is_a_problem_too(running: Running, path: str) -> None:
    """aiohttp answers an unknown Expect in plain text before any middleware; callers see one error format."""
    answer = await running.caller().call("GET", path, headers={"Expect": "200-ok"})
    assert (answer.status, answer.problem) == (417, "expectation-failed")
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_a_charset_is_accepted(running: Running) -> None:
    """Many programs send one."""
    answer = await running.caller().call(
        "POST",
        f"{TASKS}/addition",
        data=b'{"a": 1, "b": 2}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert answer.status == 202


async def test_unknown_endpoints_and_methods_are_refused(running: Running) -> None:
    """404 names the list of endpoints, 405 the allowed methods."""
    caller = running.caller()
    answer = await caller.get("/api/v2/tasks")
    assert (answer.status, answer.problem) == (404, "no-such-page")
    answer = await caller.call("PUT", TASKS)
    assert (answer.status, answer.problem, answer.headers["Allow"]) == (405, "method-not-allowed", "GET, POST")


async def test_parameters_of_endpoints_without_any_are_refused(running: Running) -> None:
    """A misplaced wait is not silently ignored."""
    answer = await running.caller().post(f"{TASKS}/addition?wait=5", {"a": 1, "b": 2})
    assert (answer.status, answer.body["field"]) == (400, "wait")
    assert running.network.submissions == []


async def test_inputs_are_not_logged(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Neither accepted nor refused, nor out of broken JSON, nor from a query."""
    secret = "31337313373133731337"
    caller = running.caller()
    with caplog.at_level(logging.DEBUG):
        await caller.post(f"{TASKS}/addition", {"a": 7, "b": int(secret) % 2**60, "c": secret})
        await caller.post(f"{TASKS}/merkle", {"leaves": [secret], "leaf_index": 0})
        await caller.call("POST", f"{TASKS}/merkle", data=f'{{"leaves": [{secret}'.encode(), headers=JSON)
        await caller.get(f"{TASKS}?page_token={secret}")
    assert "POST /api/v1/tasks/merkle answered 202" in caplog.text
    assert secret not in caplog.text


async def test_every_request_is_logged_with_caller_and_id(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """An operator can find the request by it."""
    with caplog.at_level(logging.INFO, logger="zkp.gateway"):
        answer = await running.caller().get(f"{TASKS}/nothing")
        submitted = await running.caller().post(f"{TASKS}/addition", {"a": 1, "b": 2})
    record, after = [record for record in caplog.records if "answered" in record.getMessage()]
    assert record.getMessage().startswith("GET /api/v1/tasks/{id} answered 404 in ")
    assert record.__dict__["request_id"] == answer.headers["X-Request-Id"]
    assert record.__dict__["peer"] == "spiffe://zkp.local/client/alice"
    assert [record.__dict__["task_id"], after.__dict__["task_id"]] == ["nothing", submitted.body["id"]]
