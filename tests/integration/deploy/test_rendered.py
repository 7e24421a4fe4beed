"""One truth: configs/prod is what the roles' templates say for the inventory, and daemons can load it."""

import stat
from pathlib import Path

import pytest

from coordinator.config.settings import CoordinatorSettings
from gateway.config import GatewaySettings
from tests.integration.deploy.playbooks import PROJECT, inventory, play
from worker.config import WorkerSettings
from zkp.daemon.settings import load

PROD = PROJECT / "configs" / "prod"
KINDS: dict[str, tuple[type[CoordinatorSettings | WorkerSettings | GatewaySettings], str]] = {
    "coordinator": (CoordinatorSettings, "COORDINATOR"),
    "worker": (WorkerSettings, "WORKER"),
    "gateway": (GatewaySettings, "GATEWAY"),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rendered")
    code, said = play("render.yml", "inventories/prod", place, "-e", f"zkp_render_to={place}")
    assert code == 0, said
    return place


def test_agrees(rendered: Path) -> None:
    """The files in configs/prod are just what the templates make of the prod inventory."""
    made = {path.name: path.read_text("utf-8") for path in rendered.glob("*.yaml")}
    kept = {path.name: path.read_text("utf-8") for path in PROD.glob("*.yaml")}
    assert made == kept, "run `ansible-playbook -i inventories/prod render.yml` in ansible/"


@pytest.mark.parametrize("path", sorted(PROD.glob("*.yaml")), ids=lambda path: path.stem)
def test_loads(path: Path) -> None:
    """A daemon takes each of them, names itself as the file is named, and finds nothing to complain about."""
    kind, prefix = KINDS[path.stem.partition("-")[0]]
    settings = load(kind, path, prefix=prefix, environ={"DB_PASSWORD": "chosen"})
    name = settings.node.id if isinstance(settings, CoordinatorSettings) else settings.id
    assert name == path.stem


@pytest.fixture(scope="module", params=["ipv6", "dual stack"])
def ipv6(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What hosts with IPv6 addresses would be told: the directory."""
    place = tmp_path_factory.mktemp("ipv6")
    first, more = ("fd00:5::{}", None) if request.param == "ipv6" else ("192.168.1.{}", "fd00:5::{}")
    hosts = {
        name: {"ansible_host": first.format(number), "zkp_more_addresses": [more.format(number)] if more else []}
        for number, name in enumerate(_HOSTS, start=11)
    }
    groups = {key: [*_HOSTS] for key in ("coordinators", "workers", "gateways")} | {"database": [_HOSTS[0]]}
    code, said = play("render.yml", inventory(place, hosts, **groups), place, "-e", f"zkp_render_to={place}")
    assert code == 0, said
    return place


_HOSTS = ("host-1", "host-2", "host-3")


def test_ipv6_addresses_are_written_so_that_daemons_take_them(ipv6: Path) -> None:
    """Every daemon's own schema takes them, and each listens by both versions of IP."""
    paths = sorted(ipv6.glob("*.yaml"))
    assert len(paths) == 3 * len(_HOSTS)
    for path in paths:
        kind, prefix = KINDS[path.stem.partition("-")[0]]
        settings = load(kind, path, prefix=prefix, environ={})
        binds = [settings.raft.bind, settings.grpc.bind] if isinstance(settings, CoordinatorSettings) else []
        assert {each.host for each in (*binds, settings.metrics.bind)} == {"::"}


def test_three_nodes() -> None:
    """Three coordinators know the same three peers, each under an id and an address of its own."""
    nodes = [
        load(CoordinatorSettings, path, prefix="COORDINATOR", environ={})
        for path in sorted(PROD.glob("coordinator-*.yaml"))
    ]
    assert [node.node.id for node in nodes] == ["coordinator-1", "coordinator-2", "coordinator-3"]
    assert [str(node.raft.advertise) for node in nodes] == [f"192.168.1.{last}:7000" for last in (10, 11, 12)]
    assert len({node.raft.peers for node in nodes}) == 1
    assert not any(node.raft.bootstrap for node in nodes)
    assert all(node.database.ssl_mode == "verify-full" for node in nodes)


def test_into_a_directory_that_is_missing(tmp_path: Path) -> None:
    """render.yml makes the directory that it is told to write into, with those above it."""
    place = tmp_path / "not" / "there"

    code, said = play("render.yml", "inventories/prod", tmp_path, "-e", f"zkp_render_to={place}")

    assert code == 0, said
    assert {path.name for path in place.iterdir()} == {path.name for path in PROD.glob("*.yaml")}


def test_a_directory_keeps_its_mode(tmp_path: Path) -> None:
    """A directory that exists, such as /tmp itself, is written into and left as it is."""
    tmp_path.chmod(0o1777)

    code, said = play("render.yml", "inventories/prod", tmp_path, "-e", f"zkp_render_to={tmp_path}")

    assert code == 0, said
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
