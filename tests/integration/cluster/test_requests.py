"""Requests to a gateway: valid ones are proved, invalid ones are rejected without effect."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.cluster.gateway_calls import TASKS, GatewayCaller
from tests.integration.cluster.network import Network
from tests.integration.cluster.work import check_recorded_once, finished
from zkp.localcluster.process import python_module
from zkp.proofs.field import ORDER
from zkp.proofs.keys import KeyStore


@pytest.fixture
def network(calm_network: Network) -> Network:
    """A network whose gateway has high rate limits."""
    return calm_network


@pytest.fixture
def call(network: Network) -> GatewayCaller:
    """A client of its gateway."""
    return GatewayCaller(network)


LEAVES = [11, 22, 33, 44, 55]
RANGE = {"value": 42, "min": 18, "max": 120}
BAD = {
    "index beyond the list": ("merkle", {"leaves": LEAVES, "leaf_index": 5}, 400, "leaf_index"),
    "negative index": ("merkle", {"leaves": LEAVES, "leaf_index": -1}, 400, "leaf_index"),
    "no index": ("merkle", {"leaves": LEAVES}, 400, "leaf_index"),
    "no leaves": ("merkle", {"leaves": [], "leaf_index": 0}, 400, "leaves"),
    "leaves that are no list": ("merkle", {"leaves": "11", "leaf_index": 0}, 400, "leaves"),
    "leaf at the field's order": ("merkle", {"leaves": [1, str(ORDER)], "leaf_index": 0}, 400, "leaves[1]"),
    "leaf above the field's order": ("merkle", {"leaves": [ORDER + 1], "leaf_index": 0}, 400, "leaves[0]"),
    "leaf of a thousand bits": ("merkle", {"leaves": [1, 2, hex(2**1000)], "leaf_index": 0}, 400, "leaves[2]"),
    "min above the value": ("range", {**RANGE, "min": 43}, 400, "value"),
    "value above max": ("range", {**RANGE, "max": 41}, 400, "value"),
    "min above max": ("range", {**RANGE, "min": 121}, 400, "min"),
    "value of 65 bits": ("range", {**RANGE, "value": 2**64}, 400, "value"),
    "addend of 65 bits": ("addition", {"a": 2**64, "b": 1}, 400, "a"),
    "unknown field": ("addition", {"a": 1, "b": 2, "c": 3}, 400, "c"),
    "a curve that is not offered": (
        "merkle",
        {"leaves": LEAVES, "leaf_index": 0, "curve": "bls12-381"},
        400,
        "curve",
    ),
    "unknown circuit": ("", {"circuit": "multiplication", "inputs": {"a": 1, "b": 2}}, 400, "circuit"),
    "unknown field beside the inputs": ("", {"circuit": "addition", "input": {}}, 400, "input"),
    "wrong field within the inputs": ("", {"circuit": "addition", "inputs": {"a": "x", "b": 2}}, 400, "inputs.a"),
    "too many retries": (
        "",
        {"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": 101},
        400,
        "max_retries",
    ),
    "no JSON": ("addition", b'{"a": 1, "b": ', 400, None),
    "JSON that is no object": ("addition", [1, 2], 400, None),
    "a member twice": ("addition", b'{"a": 1, "a": 2, "b": 3}', 400, None),
    "6 MB": ("merkle", {"leaves": [ORDER - 1] * 76_000, "leaf_index": 0}, 413, None),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_names_the_field_and_changes_nothing(call: GatewayCaller, what: str) -> None:
    """The response is 4xx with problem details, and no task is created."""
    kind, body, status, field = BAD[what]
    before = call.ids()

    reply = call.submit(kind, body)

    assert (reply.status, reply.document.get("field")) == (status, field), reply
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.document["status"] == status
    if field is not None:
        assert reply.document["detail"].startswith(f"{field}: ")
    assert call.ids() == before


def test_lists_of_every_shape_are_proved(network: Network, call: GatewayCaller, tmp_path: Path, keys: Path) -> None:
    """Proofs for the first and last entries of lists of different sizes verify with the exported key alone."""
    wanted = [(size, size - 1) for size in (1, 2, 3, 5, 6, 7, 12, 33)] + [(3, 1), (100, 64), (1000, 0)]
    ids = {
        place: call.submit("merkle", {"leaves": list(range(1, place[0] + 1)), "leaf_index": place[1]}).document["id"]
        for place in wanted
    }
    proofs = []
    for (size, index), task_id in ids.items():
        task = call.completed(task_id)
        proofs.append(tmp_path / f"{size}-{index}.json")
        document = call("GET", f"{TASKS}/{task_id}/proof").document
        assert document["public_inputs"] == task["public_inputs"]
        proofs[-1].write_text(json.dumps(document))
    key = KeyStore(keys).export("merkle_proof", tmp_path / "verification_key.json")

    done = subprocess.run(
        python_module("zkp.cli", "verify", "--json", *map(str, proofs), "--key", str(key)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result["valid"] for result in results] == [True] * len(wanted)
    roots = {
        place: json.loads(path.read_text())["public_inputs"][0] for place, path in zip(wanted, proofs, strict=True)
    }
    assert "0" not in roots.values()
    assert roots[3, 2] == roots[3, 1]
    assert len(set(roots.values())) == len(wanted) - 1


async def test_an_idempotency_key_names_one_task_also_across_a_failover(
    network: Network, call: GatewayCaller
) -> None:
    """Ten concurrent requests, one after a failover and one after the task's end give the same task."""
    body = {"leaves": LEAVES, "leaf_index": 3}
    before = call.ids()
    with ThreadPoolExecutor(10) as threads:
        at_once = list(threads.map(lambda _: call.submit("merkle", body, "order-4711"), range(10)))
    leader = network.leader()
    network.cluster.kill(leader.id)
    after_failover = call.submit("merkle", body, "order-4711")
    task_id = after_failover.document["id"]
    call.completed(task_id)
    after_end = call.submit("merkle", body, "order-4711")
    other_content = call.submit("merkle", {**body, "leaf_index": 2}, "order-4711")
    network.cluster.up()

    replies = [*at_once, after_failover, after_end]
    assert {(reply.status, reply.document["id"]) for reply in replies} == {(202, task_id)}
    assert [reply.document["duplicate"] for reply in replies].count(
        False
    ) <= 1  # the client library may have repeated the first
    assert after_end.document["state"] == "completed"
    assert (other_content.status, other_content.document["title"]) == (
        409,
        "Idempotency key already used with a different body",
    )
    assert call.ids() - before == {task_id}
    async with network.client() as client:
        check_recorded_once(network, await finished(client, [task_id]))


def test_a_range_and_a_sum_are_proved_too(call: GatewayCaller) -> None:
    """A generated blinding is returned once; the value and the addends are in no response."""
    ranged = call.submit("range", RANGE).document
    added = call.submit("", {"circuit": "addition", "inputs": {"a": "0x28", "b": 2}}).document

    assert call.completed(ranged["id"])["public_inputs"][1:] == ["18", "120"]
    assert call.completed(added["id"])["public_inputs"] == ["42"]
    assert int(ranged["blinding"]) > 0
    assert "blinding" not in call("GET", f"{TASKS}/{ranged['id']}").document
