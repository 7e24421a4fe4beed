"""Continuous load from clients that reload their certificates, with the outcome of each request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pki.tls.material import TlsError, TlsFiles
from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network
from tests.integration.cluster.work import submission
from zkp.client.leader import LeaderConnection
from zkp.client.tasks import TaskClient
from zkp.daemon.certificates import Certificates
from zkp.localcluster.https import HttpsCaller
from zkp.localcluster.layout import CLIENT, GATEWAY

_PAUSE_S = 0.05
_ACCEPTED = 202


@dataclass
class Load:
    """Ids of the tasks that were accepted, every request that failed, and what the callers are known by."""

    certificates: Certificates
    accepted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def serials(self) -> set[str]:
        """Of the leaf and the roots that the connections are made with, hexadecimal."""
        return {loaded.serial for loaded in self.certificates.loaded if loaded.kind != "issuer"}

    async def more(self, count: int) -> None:
        """Wait until that many more were accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while len(self.accepted) < wanted:  # noqa: ASYNC110 - the load tells nobody
                await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def under_load(network: Network) -> AsyncIterator[Load]:
    """Tasks keep coming over gRPC, on connections that stay open, and over HTTPS, on one each."""
    certificates = Certificates.load(TlsFiles.in_directory(network.layout.identity(CLIENT)))
    load = Load(certificates)
    async with LeaderConnection(network.cluster.profile.coordinators, certificates.material) as connection:
        certificates.on_change(connection.refresh)
        client = TaskClient(connection, timeout=WAIT_TIMEOUT_S)
        works = [
            asyncio.create_task(work) for work in (certificates.watch(), _submit(client, load), _post(network, load))
        ]
        try:
            yield load
        finally:
            for work in works:
                work.cancel()
            outcomes = await asyncio.gather(*works, return_exceptions=True)
        load.failed += [repr(outcome) for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)]


async def _submit(client: TaskClient, load: Load) -> None:
    while True:
        try:
            answer = await client.submit(submission())
            load.accepted.append(answer.task.id)
        except Exception as error:  # noqa: BLE001 - whatever it is, it counts
            load.failed.append(f"submission: {error!r}")
        await asyncio.sleep(_PAUSE_S)


async def _post(network: Network, load: Load) -> None:
    address = network.address(GATEWAY, "https")
    while True:
        answer = await asyncio.to_thread(_caller(network).post, address, "/api/v1/tasks/addition", {"a": 1, "b": 2})
        if answer.status == _ACCEPTED:
            load.accepted.append(str(answer.document["id"]))
        else:
            load.failed.append(f"gateway: {answer}")
        await asyncio.sleep(3 * _PAUSE_S)


def _caller(network: Network) -> HttpsCaller:
    """With the certificate of the day; a pair that is just being replaced is read again."""
    while True:
        try:
            return HttpsCaller(network.layout.identity(CLIENT))
        except TlsError:
            continue
