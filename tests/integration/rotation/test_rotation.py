"""Rotation of every certificate and CA under load, without a failed request."""

import asyncio
import functools
import http.client
import signal
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pki.tls.material import TlsFiles, TlsMaterial
from tests.integration.cluster.network import Network, eventually, running
from tests.integration.cluster.work import finished
from tests.integration.rotation.authority import Operator
from tests.integration.rotation.conftest import MakeOperator
from tests.integration.rotation.load import Load, under_load
from tests.integration.rotation.port_probe import PortProbe
from zkp.cli import app
from zkp.client.model import TaskState
from zkp.localcluster.layout import ADMIN, CLIENT, COORDINATORS, GATEWAY


class Rotation:
    """A network under load, and the operator who rotates what it is made of."""

    def __init__(self, network: Network, operator: Operator, load: Load, scratch: Path) -> None:
        self.network = network
        self.operator = operator
        self.load = load
        self._scratch = scratch
        self.kept: list[Mapping[str, Path]] = []

    def keep(self) -> None:
        """Copies of everybody's certificates as they are now: they must be worth nothing later."""
        self.kept.append(self.operator.keep(self.operator.names, self._scratch / str(len(self.kept))))

    async def taken_up(self, *, told: bool) -> None:
        """Every daemon uses what lies on its disk; `told`: by a signal, or it has to look for itself."""
        if told:
            for member in self.network.cluster.profile.members:
                self.network.process(member).send_signal(signal.SIGHUP)
        for member in self.network.cluster.profile.members:
            await asyncio.to_thread(
                eventually, f"{member} has taken it up", lambda name=member: self._is_current(name)
            )
        # The callers look for themselves too, and may be the last: until then a revocation rightly refuses them.
        wanted, _ = self.operator.on_disk(CLIENT)
        await asyncio.to_thread(eventually, "the callers have taken it up", lambda: self.load.serials() == wanted)
        await self.load.more(10)

    def _is_current(self, member: str) -> bool:
        wanted, listed = self.operator.on_disk(member)
        metrics = samples(self.network, member)
        used = {serial for kind, serial in metrics.get("zkp_certificate_expiry_seconds", {}) if kind != "issuer"}
        (revoked,) = metrics.get("zkp_revoked_certificates", {(): 0.0}).values()
        return used == wanted and revoked >= listed

    def shut_out(self) -> None:
        """Nobody gets in anywhere with a certificate that was kept."""
        for copies in self.kept:
            for name, directory in copies.items():
                probe = PortProbe(directory, self.operator.directory(CLIENT))
                shut_out = functools.partial(probe.is_refused, self.network)
                eventually(f"{name} shut out", shut_out)


def samples(network: Network, member: str) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """The member's metrics: name → label values → value. Empty while it does not answer."""
    places = network.cluster.profile.addresses[member]
    host, _, port = places.get("metrics", places["health"]).rpartition(":")
    context = TlsMaterial.load(TlsFiles.in_directory(network.layout.identity(ADMIN))).client_context()
    connection = http.client.HTTPSConnection(host, int(port), timeout=5, context=context)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def broken(rotation: Rotation) -> None:
    """A pair that does not match is refused, logged and counted wherever it is put, and the old one goes on."""
    members = ("coordinator-1", "worker-1", GATEWAY)
    keys = {name: (rotation.operator.directory(name) / "key.pem").read_bytes() for name in members}
    for name, other in zip(members, (members[-1], *members), strict=False):
        (rotation.operator.directory(name) / "key.pem").write_bytes(keys[other])

    def refused(name: str) -> bool:
        return samples(rotation.network, name).get("zkp_tls_reload_failures_total", {}).get((), 0) >= 1

    for name in members:
        await asyncio.to_thread(eventually, f"{name} refuses the pair", functools.partial(refused, name))
        assert "key.pem is not the key of" in rotation.network.log(name)
        (rotation.operator.directory(name) / "key.pem").write_bytes(keys[name])
    await rotation.load.more(10)


async def leaves(rotation: Rotation) -> None:
    """Every leaf is renewed; then the old ones are revoked through the cluster, by the list."""
    rotation.keep()
    rotation.operator.renew(*rotation.operator.names)
    await rotation.taken_up(told=False)
    rotation.operator.pki("revoke", "--superseded", "--reason", "superseded")
    rotation.operator.pki("bundle", "--out", str(rotation.network.layout.root / "bundle"))
    crl = rotation.network.layout.root / "bundle" / "crl.pem"
    arguments = ["admin", "revoke", "--crl", str(crl), "--dir", str(rotation.network.layout.root)]
    assert await asyncio.to_thread(app.run, arguments) == 0


async def issuer(rotation: Rotation) -> None:
    """The issuing CA in its three steps."""
    rotation.keep()
    rotation.operator.pki("rotate-issuer")
    rotation.operator.hand_out()
    await rotation.taken_up(told=True)
    rotation.operator.pki("rotate-issuer", "--switch")
    rotation.operator.renew("--due")
    await rotation.taken_up(told=False)
    rotation.operator.pki("rotate-issuer", "--finish")
    rotation.operator.hand_out()
    await rotation.taken_up(told=True)


async def root(rotation: Rotation) -> None:
    """The root in its three steps, both being trusted in between."""
    rotation.keep()
    rotation.operator.pki("rotate-root", "--no-passphrase", "--development")
    rotation.operator.hand_out()
    await rotation.taken_up(told=False)
    rotation.operator.pki("rotate-root", "--switch")
    rotation.operator.renew("--due")
    await rotation.taken_up(told=True)
    rotation.operator.pki("rotate-root", "--finish")
    rotation.operator.hand_out()
    await rotation.taken_up(told=False)


async def test_leaves_issuer_and_root_are_rotated_under_load(
    tmp_path: Path, keys: Path, operator_of: MakeOperator
) -> None:
    """No request fails, no election begins, every task is proved, and old certificates are refused at every port."""
    # A machine that is busy with other tests must not look like a leader that is gone.
    with running(tmp_path / "zkp", keys, variables={"COORDINATOR_RAFT_ELECTION_TIMEOUT": "2s"}) as network:
        operator = operator_of(network)
        before = network.agreed()
        logged = {name: network.log_size(name) for name in COORDINATORS}
        async with under_load(network) as load:
            rotation = Rotation(network, operator, load, tmp_path / "kept")
            await load.more(10)
            probe = PortProbe(operator.directory(CLIENT), operator.directory(CLIENT))
            assert await asyncio.to_thread(probe.accepting_ports, network)
            await broken(rotation)
            for rotate in (leaves, issuer, root):
                await rotate(rotation)
                await asyncio.to_thread(rotation.shut_out)
        assert load.failed == []
        assert network.agreed() == before
        for name in COORDINATORS:
            lines = network.log(name, logged[name])
            assert "candidate" not in lines
            assert "connection closed" not in lines  # between coordinators, not even for a moment
        async with network.client() as client:
            tasks = await finished(client, load.accepted)
        assert {task.state for task in tasks.values()} == {TaskState.COMPLETED}
