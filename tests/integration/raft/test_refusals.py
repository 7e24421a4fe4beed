"""Whoever has no business on the Raft port is refused in words, and the cluster goes on as if nothing had been.

One cluster for all of it; every attempt is made at its leader, the last by name, whom all others dial.
"""

import asyncio
import logging
import random
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.raft.transport import framing
from pki.ca.authority import Authority
from pki.x509.identity import Role
from tests.integration.raft.trio import HONEST, NOW, PATIENCE, Member, Trio, three_members, until
from tests.unit.pki.forgery import HOSTS, authority
from zkp.protocol.v1 import raft_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOISE = b"\xf5" + random.Random(20).randbytes(4095)
TARGET = "coordinator-3"
TWO_GIB = (2**31).to_bytes(4, "big") + b"the beginning of a very long frame"
HTTP = b"GET /metrics HTTP/1.1\r\nHost: coordinator\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Caller:
    """What somebody shows: nothing at all (plain text), TLS without a certificate, or one of their own."""

    tls: bool = True
    name: str = ""
    role: Role = Role.COORDINATOR
    signed_by: Authority = HONEST
    age: timedelta = timedelta()

    def context(self, directory: Path) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=HONEST.issue("x", Role.CLIENT, now=NOW).ca_pem.decode())
        if self.name:
            files = self.signed_by.issue(self.name, self.role, HOSTS, now=NOW - self.age).write(directory)
            context.load_cert_chain(files.certificate, files.key)
        return context


PLAIN = Caller(tls=False)
NOBODY = Caller()
STRANGER = Caller(name="coordinator-2", signed_by=authority(NOW))
EXPIRED = Caller(name="coordinator-2", age=timedelta(days=45))
WORKER = Caller(name="worker-1", role=Role.WORKER)
ADMIN = Caller(name="admin-1", role=Role.ADMIN)
UNKNOWN = Caller(name="coordinator-9")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trio]:
    """A connection whose place was taken is let go soon, so that the true peer has its own back soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.raft.transport.connections._REPLACED_LINGER_S", 0.05)
        async with three_members(tmp_path_factory.mktemp("trio")) as cluster:
            leader = await cluster.elected()
            if leader.name != TARGET:
                assert leader.runner is not None
                await leader.runner.transfer_leadership(TARGET)
            assert (await cluster.elected()).name == TARGET
            yield cluster


async def call(member: Member, context: ssl.SSLContext | None, data: bytes) -> bytes:
    """Connect, send, and take what comes until the other side closes, which it must."""
    name = None if context is None else "127.0.0.1"
    received = b""
    async with asyncio.timeout(PATIENCE):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", member.port, ssl=context, server_hostname=name
            )
            with suppress(OSError):
                writer.write(data)
                while chunk := await reader.read(65_536):
                    received += chunk
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    return received


def at_work(trio: Trio) -> tuple[str, int]:
    """Who leads, in which term."""
    leader = trio.leader()
    assert leader is not None
    assert leader.runner is not None
    return leader.name, leader.runner.term


def all_connected(trio: Trio) -> bool:
    return all(
        peer.connected
        for member in trio.members.values()
        if member.runner is not None
        for peer in member.runner.status().peers.values()
    )


async def refused(
    trio: Trio, caplog: pytest.LogCaptureFixture, context: ssl.SSLContext | None, data: bytes, at: str = TARGET
) -> tuple[list[str], list[str]]:
    """Try it at this member: the kinds of refusal that it counted and the reasons that it logged.

    Afterwards the same member leads in the same term, everybody is connected, and a word is accepted.
    """
    target = trio.members[at]
    before = at_work(trio)
    said = list(target.machine.said)
    target.refused.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        received = await call(target, context, data)
        await until(lambda: bool(target.refused))
    assert b"HTTP" not in received
    await until(lambda: all_connected(trio))
    await trio.say("still here")
    await trio.agreed(*said, "still here")
    assert at_work(trio) == before
    lines = [record.getMessage() for record in caplog.records if "refused a Raft connection" in record.getMessage()]
    return target.refused, lines


@dataclass(frozen=True)
class Attempt:
    """Who tries what; the kind of refusal that is counted, and a pattern of the reason that is logged."""

    caller: Caller
    data: bytes
    kind: str
    reason: str


STRANGERS = {
    "plain HTTP": Attempt(PLAIN, HTTP, "broken_tls", "it does not speak TLS"),
    "random bytes": Attempt(PLAIN, NOISE, "broken_tls", "it does not speak TLS"),
    "2 GiB without TLS": Attempt(PLAIN, TWO_GIB, "broken_tls", "it does not speak TLS"),
    "no certificate": Attempt(NOBODY, NOISE, "no_certificate", "it showed no client certificate"),
    "another CA": Attempt(STRANGER, NOISE, "untrusted", "its certificate does not verify"),
    "expired": Attempt(EXPIRED, NOISE, "expired", "certificate has expired"),
    "worker": Attempt(WORKER, NOISE, "identity", "is a worker: only coordinators speak Raft"),
    "admin": Attempt(ADMIN, NOISE, "identity", "is an admin: only coordinators speak Raft"),
    "unknown coordinator": Attempt(UNKNOWN, NOISE, "identity", "is not a configured peer"),
}


@pytest.mark.parametrize("attempt", STRANGERS.values(), ids=STRANGERS)
async def test_strangers_are_refused_before_a_byte_is_read(
    trio: Trio, caplog: pytest.LogCaptureFixture, tmp_path: Path, attempt: Attempt
) -> None:
    """By their certificate or the lack of one; what they sent is never looked at."""
    kinds, lines = await refused(trio, caplog, attempt.caller.context(tmp_path), attempt.data)
    assert kinds == [attempt.kind]
    assert len(lines) == 1
    assert re.search(attempt.reason, lines[0])


ALERTS = {
    "no certificate": (NOBODY, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    "another CA": (STRANGER, "TLSV1_ALERT_UNKNOWN_CA"),
    "expired": (EXPIRED, "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
}


@pytest.mark.parametrize(("caller", "alert"), ALERTS.values(), ids=ALERTS)
async def test_whoever_is_refused_is_told_why(trio: Trio, tmp_path: Path, caller: Caller, alert: str) -> None:
    """By an alert of TLS, so that the peer's log names what to mend on its side."""
    context = caller.context(tmp_path)
    port = trio.members[TARGET].port
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLError) as told:
            await reader.read(1)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    assert told.value.reason == alert


async def test_a_peer_that_is_dialled_takes_nobodys_place_by_dialling(
    trio: Trio, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One live connection a peer, and of each two it is known who makes it: an outdated copy of a peer's key and
    certificate does not push the true one out."""
    dials, dialled = trio.members["coordinator-1"], TARGET
    assert dials.runner is not None
    before = dict(dials.runner._links._live)
    context = Caller(name=dialled).context(tmp_path)
    kinds, lines = await refused(trio, caplog, context, hello(dialled, dials.name), at=dials.name)
    assert kinds == ["identity"]
    assert "coordinator-3 dials, but of the two coordinator-1 does" in lines[0]
    assert dict(dials.runner._links._live) == before


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def hello(node_id: str, peer_id: str, cluster_id: str = "") -> bytes:
    introduction = pb.Hello(node_id=node_id, peer_id=peer_id, version=framing.PROTOCOL_VERSION, last_log_index=99)
    return framing.pack(pb.Envelope(cluster_id=cluster_id, term=99, sequence=1, hello=introduction))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(NOISE, "frame of 4[0-9]+ bytes; at most", id="random bytes"),
        pytest.param(TWO_GIB, "frame of 2147483648 bytes; at most", id="2 GiB"),
        pytest.param(HTTP, "frame of [0-9]+ bytes; at most", id="HTTP within TLS"),
        pytest.param(frame(NOISE), "frame is not an envelope|holds no message", id="random body"),
        pytest.param(frame(b"\x80\x04cos\nsystem\n"), "frame is not an envelope|holds no message", id="pickle"),
    ],
)
async def test_nonsense_of_a_known_peer_closes_its_connection(
    trio: Trio, caplog: pytest.LogCaptureFixture, tmp_path: Path, data: bytes, reason: str
) -> None:
    """A good certificate of a configured peer in the wrong hands."""
    peer = trio.others(await trio.elected())[0]
    kinds, lines = await refused(trio, caplog, Caller(name=peer.name).context(tmp_path), data)
    assert kinds == ["frame"]
    assert re.search(reason, lines[0])


async def test_a_peer_that_claims_to_be_another_is_refused(
    trio: Trio, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Its certificate says who it is, whatever its hello says; nor can it speak to somebody else through us."""
    leader = await trio.elected()
    one, other = trio.others(leader)
    context = Caller(name=one.name).context(tmp_path)
    kinds, lines = await refused(trio, caplog, context, hello(other.name, leader.name))
    assert kinds == ["frame"]
    assert f"says it is '{other.name}' looking for '{leader.name}'" in lines[0]
    kinds, lines = await refused(trio, caplog, context, hello(one.name, other.name))
    assert f"says it is '{one.name}' looking for '{other.name}'" in lines[0]


async def test_a_peer_of_another_cluster_is_refused(
    trio: Trio, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Two clusters of one trust domain never mix, and its higher term deposes nobody."""
    leader = await trio.elected()
    peer = trio.others(leader)[0]
    context = Caller(name=peer.name).context(tmp_path)
    _, lines = await refused(trio, caplog, context, hello(peer.name, leader.name, "f" * 32))
    assert f"belongs to cluster {'f' * 32}, this node to " in lines[0]


async def test_connections_that_say_nothing_hold_nobody_up(trio: Trio) -> None:
    """A member that starts meanwhile is connected all the same, and the idle ones are closed in the end."""
    leader = await trio.elected()
    idle = [await asyncio.open_connection("127.0.0.1", leader.port) for _ in range(20)]
    member = trio.others(leader)[0]
    await member.stop()
    await member.start()
    await until(lambda: all_connected(trio))
    async with asyncio.timeout(PATIENCE):
        for reader, writer in idle:
            with suppress(ConnectionError):
                assert await reader.read(1) == b""
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    assert (await trio.elected()) is leader
