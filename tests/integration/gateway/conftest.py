"""A gateway with real TLS, certificates and processes, and coordinators in memory."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config import GatewaySettings, MetricsSettings, RateSettings
from gateway.serve import Gateway
from gateway.submission_pool import SubmissionPool
from pki.ca.authority import Authority
from pki.tls.material import TlsFiles, TlsMaterial
from pki.x509.identity import Role
from tests.integration.gateway.caller import Caller
from tests.integration.gateway.fake_network import FakeNetwork
from zkp.daemon.certificates import Certificates
from zkp.daemon.settings import Address, TlsSettings

PATIENCE_S = 60  # a loaded machine is slow; a test that hangs still fails
NEVER_LIMITED = RateSettings(per_second=100_000, burst=100_000)


class Identities:
    """Certificates of one network, each made once."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority.create("zkp.local", now=datetime.now(UTC))
        self._directory = directory

    def files(self, name: str, role: Role) -> TlsFiles:
        """An identity on disk; for servers its addresses are 127.0.0.1 and 127.0.0.2."""
        directory = self._directory / name
        if not directory.exists():
            hosts = ["127.0.0.1", "127.0.0.2"] if role is Role.GATEWAY else []
            self.authority.issue(name, role, hosts, now=datetime.now(UTC)).write(self._directory)
        return TlsFiles.in_directory(directory)

    def context(self, name: str, role: Role) -> ssl.SSLContext:
        """Return the TLS context of a client with that identity."""
        return TlsMaterial.load(self.files(name, role)).client_context()

    def anonymous(self) -> ssl.SSLContext:
        """Return the TLS context of a client without a certificate."""
        roots = self.files("gateway-1", Role.GATEWAY).ca
        return ssl.create_default_context(cafile=roots)


class Clock:
    """The current time, plus an offset set by a test."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Running:
    """A running gateway, and what tests need of it."""

    gateway: Gateway
    network: FakeNetwork
    identities: Identities
    callers: list[Caller]
    clock: Clock

    @property
    def port(self) -> int:
        """The port for callers."""
        return self.gateway.public_listener.port

    def caller(self, name: str = "alice", role: Role = Role.CLIENT) -> Caller:
        """A caller with a certificate."""
        return self._add(Caller(self.port, self.identities.context(name, role)))

    def anonymous(self, key: str | None = None) -> Caller:
        """A caller without a certificate, perhaps with an API key."""
        return self._add(Caller(self.port, self.identities.anonymous(), key))

    def _add(self, caller: Caller) -> Caller:
        self.callers.append(caller)
        return caller


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """One network's certificates."""
    return Identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="session")
def preparation() -> Iterator[SubmissionPool]:
    """Processes that all these tests share; nothing in them belongs to an event loop."""
    pool = SubmissionPool(1, 64)
    yield pool
    asyncio.run(pool.close())


async def eventually(true: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nothing here is told when it happens
            await asyncio.sleep(0.05)


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def serve(identities: Identities, preparation: SubmissionPool) -> AsyncIterator[Serve]:
    """Starts gateways, with settings that differ from the usual ones; stops them at the end."""
    running: list[Running] = []

    async def start(*, prepared_by: SubmissionPool | None = None, **changed: Any) -> Running:
        files = identities.files("gateway-1", Role.GATEWAY)
        settings = {
            "id": "gateway-1",
            "bind": Address("127.0.0.1", 0),
            "metrics": MetricsSettings(bind=Address("127.0.0.2", 0)),
            "coordinators": (Address("127.0.0.1", 9090),),
            "tls": TlsSettings(certificate=files.certificate, key=files.key, ca=files.ca),
            "rate": NEVER_LIMITED,
            **changed,
        }
        network, clock = FakeNetwork(), Clock()
        gateway = Gateway(
            GatewaySettings.model_validate(settings),
            Certificates.load(files),
            network,
            prepared_by or preparation,
            lambda: False,
            clock=clock,
        )
        await gateway.start()
        await gateway.leader_probe.probe()
        running.append(Running(gateway, network, identities, [], clock))
        return running[-1]

    yield start
    for one in running:
        for caller in one.callers:
            await caller.close()
        await one.gateway.stop()


@pytest.fixture
async def running(serve: Serve) -> Running:
    """A gateway with the usual settings, without a rate limit."""
    return await serve()
