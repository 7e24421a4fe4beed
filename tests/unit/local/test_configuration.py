"""The generated configuration of a local cluster, checked with the daemons' schemas."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from coordinator.config.settings import ALIASES, CoordinatorSettings
from gateway.config import GatewaySettings
from worker import cli as worker_command
from worker.config import WorkerSettings
from zkp.daemon import lifecycle
from zkp.daemon.settings import Section, read
from zkp.localcluster import cluster, configuration, ports
from zkp.localcluster.layout import COORDINATORS, GATEWAY, Layout, worker_names

ROOT = Path("/somewhere/.zkp")
SCHEMAS: dict[str, type[Section]] = {
    "coordinator": CoordinatorSettings,
    "worker": WorkerSettings,
    "gateway": GatewaySettings,
}
MEMBERS = (*COORDINATORS, *worker_names(2), GATEWAY)
DATABASE = {"ZKP_DATABASE_URL": "postgresql://postgres@/postgres?host=/somewhere/.zkp/postgres"}


def documents(base: int = 17000) -> dict[str, dict[str, object]]:
    """Every member's configuration."""
    return configuration.documents(Layout(ROOT), ROOT / "keys", configuration.addresses(base, 2))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_daemon_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    """Every generated configuration passes its daemon's schema."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(configuration.text(documents()[name]), encoding="utf-8")
    kind = name.partition("-")[0]

    loaded = read(SCHEMAS[kind], path, kind.upper(), DATABASE if kind == "coordinator" else {}, ALIASES)

    assert isinstance(loaded.settings, SCHEMAS[kind])


def test_no_two_listeners_share_a_port() -> None:
    """All addresses are distinct."""
    places = configuration.addresses(17000, 9)
    addresses = [address for own in places.values() for address in own.values()]

    assert len(set(addresses)) == len(addresses)


def test_the_ports_stay_within_their_block() -> None:
    """Nine workers and the other daemons fit into one block of 100 ports."""
    places = configuration.addresses(17000, 9)
    taken = {configuration.port_of(address) for own in places.values() for address in own.values()}

    assert min(taken) >= 17000
    assert max(taken) < 17000 + ports.BLOCK


def test_each_coordinator_has_its_own_id_ports_and_directory() -> None:
    """Ids, ports and directories of the nodes are distinct."""
    nodes = [documents()[name] for name in COORDINATORS]

    for key in ("node", "grpc", "health", "metrics"):
        assert len({yaml.safe_dump(node[key]) for node in nodes}) == len(COORDINATORS)


def test_advertised_addresses_are_the_ones_that_are_listened_on() -> None:
    """Advertised addresses are the bound ones, without wildcards."""
    for name in COORDINATORS:
        document = yaml.safe_load(configuration.text(documents()[name]))
        assert document["raft"]["advertise"] == document["raft"]["bind"]
        assert document["grpc"]["advertise"] == document["grpc"]["bind"]
        assert document["raft"]["advertise"].startswith("127.0.0.1:")


def test_one_node_founds_the_cluster() -> None:
    """Only one node bootstraps the cluster."""
    founders = []
    for name in COORDINATORS:
        raft = documents()[name]["raft"]
        assert isinstance(raft, dict)
        founders.append(raft["bootstrap"])

    assert founders == [True, False, False]


def test_the_database_is_in_no_file() -> None:
    """The database URL is not in a file, since it may contain a password."""
    for document in documents().values():
        assert "postgres" not in configuration.text(document)


def test_a_worker_ends_by_itself_before_it_would_be_killed(tmp_path: Path) -> None:
    """The grace period of `zkp local down` exceeds a worker's drain and shutdown timeout."""
    path = tmp_path / "worker-1.yaml"
    path.write_text(configuration.text(documents()["worker-1"]), encoding="utf-8")
    drain_s = read(WorkerSettings, path, "WORKER", {}, ALIASES).settings.drain_timeout

    ended_s = drain_s + worker_command._STOP_MARGIN_S + 2 * lifecycle._CANCEL_TIMEOUT_S

    assert ended_s < cluster._GRACE_S


@pytest.mark.parametrize(("seconds", "said"), [(4.9, ""), (5.0, " after 5 s"), (71.6, " after 72 s")])
def test_a_slow_start_is_reported_with_its_time(seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start of 5 s or more is reported with its duration; a running process has none."""
    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: 1000.0 + seconds))

    assert cluster._after(1000.0) == said
    assert cluster._after(None) == ""
