"""Private inputs are known only to the caller, the Raft log and the proving worker.

A network at debug level is given values that appear nowhere else, in good requests, bad ones, and ones that go wrong
on the way; then every log, every column of the record and every command line is searched for them.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.integration.cluster.gateway_calls import TASKS, GatewayCaller
from tests.integration.cluster.network import Network, frozen, running
from tests.integration.cluster.work import check_recorded_once, finished, submission, submit, under_way
from zkp.localcluster.layout import GATEWAY, POSTGRES
from zkp.localcluster.process import orphans

WORKERS = ("worker-1", "worker-2")
ADDEND = 15_732_846_091_237_465_218  # of 64 bits, as are the next two
VALUE = 14_906_375_218_840_236_917
LEAF = 17_245_093_168_250_947_331
BLINDING = 13_579_246_801_357_924_680_135_792_468_013_579_246_801_357_924_680_135_792_468_013_579
SECRETS = (ADDEND, VALUE, LEAF, BLINDING)
PASSWORD = b"0c5f-of-the-record-and-nobody-else"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network at log level debug."""
    settings = {
        "COORDINATOR_NODE_LOG_LEVEL": "debug",
        "WORKER_LOG_LEVEL": "debug",
        "GATEWAY_LOG_LEVEL": "debug",
        "COORDINATOR_TASKS_LEASE": "5s",
        "WORKER_DRAIN_TIMEOUT": "1s",
        "GATEWAY_RATE_PER_SECOND": "1000",
        "GATEWAY_RATE_BURST": "1000",
        "COORDINATOR_DATABASE_PASSWORD": PASSWORD.decode(),
    }
    with running(tmp_path_factory.mktemp("privacy"), keys, variables=settings) as network:
        yield network


def traces(text: bytes) -> set[int]:
    """Return the secrets that the text contains, in decimal, in hexadecimal, or as the hexadecimal of either."""
    text = text.lower()

    def forms(secret: int) -> tuple[bytes, ...]:
        decimal, hexadecimal = str(secret).encode(), f"{secret:x}".encode()
        return decimal, hexadecimal, decimal.hex().encode(), hexadecimal.hex().encode()

    return {secret for secret in SECRETS if any(form in text for form in forms(secret))}


def credentials(network: Network) -> set[bytes]:
    """Return the database's password and a line from the middle of every private key."""
    keys = [path.read_bytes().splitlines() for path in network.layout.identities.glob("*/key.pem")]
    assert len(keys) > 8
    return {PASSWORD, *(lines[len(lines) // 2] for lines in keys)}


def ask_for_everything(call: GatewayCaller) -> list[str]:
    """Send valid requests, whose ids are returned, and invalid ones with the same secrets."""
    leaves = [LEAF, 2, 3]
    ranged = {"value": VALUE, "min": 1, "max": 2**64 - 1, "blinding": str(BLINDING)}
    good = [
        call.submit("addition", {"a": ADDEND, "b": 5}),
        call.submit("range", ranged),
        call.submit("merkle", {"leaves": leaves, "leaf_index": 0}),
        call.submit("", {"circuit": "addition", "inputs": {"a": hex(ADDEND), "b": 6}}),
    ]
    bad = [
        call.submit("addition", {"a": ADDEND, "b": -1}),
        call.submit("addition", {"a": [ADDEND], "b": str(ADDEND)}),
        call.submit("addition", {str(ADDEND): 1}),
        call.submit("range", {**ranged, "max": 2}),
        call.submit("merkle", {"leaves": [*leaves, "x"], "leaf_index": LEAF}),
        call.submit("addition", b'{"a": %d, "b": %d' % (ADDEND, VALUE)),
        call.submit("", {"circuit": str(VALUE), "inputs": {"a": ADDEND}}),
        call("POST", f"{TASKS}/range", b"x=%d" % BLINDING, {"Content-Type": "text/plain"}),
    ]
    assert [reply.status for reply in good] == [202] * 4
    assert {reply.status for reply in bad} <= {400, 415}
    return [reply.document["id"] for reply in good]


async def test_secrets_are_written_nowhere(network: Network) -> None:
    """Not by any daemon at debug level, not into any column, not on any command line; not when provers are killed,
    tasks handed back, leaders killed or Postgres stopped in the middle, and not for statements that are false."""
    call = GatewayCaller(network)
    async with network.client() as client:
        slow = submission("merkle_proof", leaves=[LEAF, 2, 3], leaf_index=0)
        false = replace(submission("addition", a=ADDEND, b=1), public_inputs=("43",))
        with frozen(*network.provers(*WORKERS)):
            held = await submit(client, slow, replace(slow, task_id="held-too"))
            for task_id in held:
                await under_way(client, task_id)
            (prover,) = network.provers("worker-1")
            prover.kill()
            await asyncio.to_thread(network.cluster.stop, "worker-2")
            command_lines = b" ".join(
                b" ".join(word.encode() for word in psutil.Process(record.pid).cmdline())
                for record in orphans(network.layout.root)
            )
        leader = network.leader()
        await asyncio.to_thread(network.cluster.start, "worker-2")
        ids = await asyncio.to_thread(ask_for_everything, call)
        await asyncio.to_thread(network.cluster.kill, leader.id)
        await asyncio.to_thread(network.cluster.stop, POSTGRES)
        (failed,) = await submit(client, false)
        ids += await submit(client, submission("addition", a=ADDEND, b=7))
        tasks = await finished(client, [*held, *ids])
        assert (await finished(client, [failed]))[failed].error is not None
        await asyncio.to_thread(network.cluster.up)
    check_recorded_once(network, tasks)

    logs = sorted((network.layout.root / "logs").iterdir())
    assert [log.stem for log in logs] == sorted([*(member.name for member in network.cluster.members())])
    assert {log.stem: traces(log.read_bytes()) for log in logs} == {log.stem: set() for log in logs}
    assert GATEWAY in {log.stem for log in logs}
    assert traces(command_lines) == set()
    assert traces(dump(network)) == set()
    for secret in credentials(network):
        places = [command_lines, dump(network), raft_logs(network), *(log.read_bytes() for log in logs)]
        assert [place.count(secret) for place in places] == [0] * len(places)
    assert traces(raft_logs(network)) == {ADDEND, VALUE, LEAF, BLINDING}, (
        "the search finds nothing where they must be"
    )


def dump(network: Network) -> bytes:
    """Return every row of every table as text."""
    tables = [
        row["table_name"]
        for row in network.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    ]
    assert {"tasks", "attempts", "workers", "circuits", "projection"} <= set(tables)
    found = [row["row"] for table in tables for row in network.rows(f"SELECT t::text AS row FROM {table} AS t")]  # noqa: S608 - names of our own tables
    assert len(found) > 20
    return "\n".join(found).encode()


def raft_logs(network: Network) -> bytes:
    """Return the files in the coordinators' data directories."""
    return b"".join(path.read_bytes() for path in (network.layout.root / "data").rglob("*") if path.is_file())
