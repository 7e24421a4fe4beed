"""Invalid settings: each program prints one line with file, key and fix, and does not listen.

Each case starts from the configuration that `zkp local` writes, with one thing wrong. Somebody else listens on all of
the cluster's ports meanwhile: a daemon that tried to listen before it had checked would say that instead.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from zkp.localcluster import setup
from zkp.localcluster.configuration import port_of
from zkp.localcluster.layout import Layout
from zkp.localcluster.process import python_module

Document = dict[str, Any]
_TIMEOUT_S = 120.0
_PREFIXES = ("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")
_WILDCARD = "0.0.0.0"  # noqa: S104 - refused, not bound
_SOCKET = {"host": "/nowhere"}


@dataclass(frozen=True, slots=True)
class Site:
    """The generated files of a cluster that has not been started."""

    layout: Layout

    def document(self, member: str) -> Document:
        """The member's configuration file, which the test edits."""
        found: Document = yaml.safe_load(self.layout.config(member).read_text(encoding="utf-8"))
        return {**found, "database": dict(_SOCKET)} if member.startswith("coordinator") else found

    def data(self, member: str) -> list[Path]:
        """Return the files that the member has written."""
        return [path for path in self.layout.data(member).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Site]:
    """Prepare certificates, configurations and directories; all ports are in use."""
    layout = Layout(tmp_path_factory.mktemp("site"))
    plan = setup.Plan(layout, keys, workers=1, embedded_postgres=True)
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(setup.prepared(plan, None, lambda _: None))
        for own in profile.addresses.values():
            for address in own.values():
                stack.enter_context(socket.create_server(("127.0.0.1", port_of(address))))
        yield Site(layout)


@dataclass(frozen=True, slots=True)
class Ended:
    """Exit status and output of a program."""

    code: int
    out: str
    error: str


def run(commands: list[list[str]], variables: Mapping[str, str]) -> list[Ended]:
    """Run programs in parallel until they exit, in an environment without other settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    environment = {**kept, **variables}
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
            )
            stack.callback(process.kill)
            processes.append(process)
        said = [process.communicate(timeout=_TIMEOUT_S) for process in processes]
        return [Ended(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def wildcard(document: Document, _: Site) -> None:
    document["raft"]["advertise"] = f"{_WILDCARD}:7000"


def doubled_id(document: Document, _: Site) -> None:
    document["raft"]["peers"][2]["id"] = "coordinator-2"


def doubled_address(document: Document, _: Site) -> None:
    document["raft"]["peers"][2]["raft"] = document["raft"]["peers"][1]["raft"]


def not_a_peer(document: Document, _: Site) -> None:
    document["node"]["id"] = "coordinator-7"


def certificate_of_another(document: Document, site: Site) -> None:
    for part in ("certificate", "key"):
        document["tls"][part] = str(site.layout.identity("coordinator-2") / f"{part}.pem")


def unknown_key(document: Document, _: Site) -> None:
    document["raft"]["heartbeet"] = "50ms"


def unreadable_key(document: Document, _: Site) -> None:
    document["tls"]["key"] = "/nowhere/key.pem"


def open_key(document: Document, site: Site) -> None:
    key = site.layout.root / "open-key.pem"
    key.write_bytes((site.layout.identity("coordinator-1") / "key.pem").read_bytes())
    key.chmod(0o644)
    document["tls"]["key"] = str(key)


def slow_heartbeat(document: Document, _: Site) -> None:
    document["raft"] |= {"heartbeat": "100ms", "election_timeout": "200ms"}


def unverified_database(document: Document, _: Site) -> None:
    ca = document["tls"]["ca"]
    document["database"] = {"host": "db.example", "ssl_mode": "require", "ssl_root_cert": ca}


def nothing(_: Document, __: Site) -> None:
    """Run with an invalid environment variable."""


Spoil = Callable[[Document, Site], None]
BAD: dict[str, tuple[Spoil, dict[str, str], tuple[str, ...]]] = {
    "wildcard advertised address": (wildcard, {}, ("raft.advertise", _WILDCARD, "peers connect")),
    "two peers with one id": (doubled_id, {}, ("raft.peers[2].id", "coordinator-2")),
    "two peers at one address": (doubled_address, {}, ("raft.peers[2].raft",)),
    "own id not among the peers": (not_a_peer, {}, ("node.id", "not among raft.peers", "coordinator-1")),
    "certificate of another node": (
        certificate_of_another,
        {},
        ("tls.certificate", "coordinator/coordinator-2", "name the certificate of coordinator-1"),
    ),
    "unknown key": (unknown_key, {}, ("raft.heartbeet", "heartbeat")),
    "key file that is not there": (unreadable_key, {}, ("tls.key", "/nowhere/key.pem")),
    "key file open to others": (open_key, {}, ("tls.key", "open-key.pem", "chmod")),
    "heartbeat near the election timeout": (slow_heartbeat, {}, ("raft.heartbeat", "100ms", "50ms or less")),
    "database over a network, unverified": (
        unverified_database,
        {},
        ("database.ssl_mode", "verify-full"),
    ),
    "unknown variable": (nothing, {"COORDINATOR_RAFT_HEARTBEET": "50ms"}, ("COORDINATOR_RAFT_HEARTBEAT",)),
    "wildcard from the environment": (
        nothing,
        {"COORDINATOR_GRPC_ADVERTISE": f"{_WILDCARD}:9090"},
        ("COORDINATOR_GRPC_ADVERTISE", _WILDCARD),
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_coordinator_refuses_wrong_settings(site: Site, what: str) -> None:
    """`coordinator check` and the daemon print the same line, exit non-zero, and use neither ports nor data."""
    spoil, variables, words = BAD[what]
    document = site.document("coordinator-1")
    spoil(document, site)
    config = site.layout.config("coordinator-1").with_name("spoilt.yaml")
    config.write_text(yaml.safe_dump(document), encoding="utf-8")

    ended = run([python_module("coordinator", *verb, "--config", str(config)) for verb in (["check"], [])], variables)

    for program in ended:
        assert (program.code, program.out) == (1, "")
        (line,) = program.error.splitlines()
        assert line.startswith("error: ")
        for word in (next(iter(variables), str(config)), *words):
            assert word in line
    assert ended[0] == ended[1]
    assert site.data("coordinator-1") == []


def test_a_good_configuration_passes_the_check_alone(site: Site) -> None:
    """The check of a generated configuration succeeds while its ports are in use."""
    config = str(site.layout.config("coordinator-1"))
    variables = {"ZKP_DATABASE_URL": "postgresql://zkp@/zkp?host=/nowhere"}

    checked, started = run(
        [python_module("coordinator", *verb, "--config", config) for verb in (["check"], [])], variables
    )

    assert (checked.code, checked.error) == (0, "")
    assert "coordinator-1 with coordinator-2, coordinator-3" in checked.out
    assert started.code == 1
    assert "cannot listen on" in started.error


@pytest.mark.parametrize("member", ["worker-1", "gateway"])
def test_the_other_daemons_refuse_as_clearly(site: Site, member: str) -> None:
    """An unknown key and another member's certificate give one line with file, key and fix."""
    other = site.layout.identity("coordinator-1")
    cases: dict[str, Document] = {
        "coordinator: unknown key; did you mean coordinators?": {"coordinator": []},
        "tls.certificate: ": {"tls": {part: str(other / f"{part}.pem") for part in ("certificate", "key", "ca")}},
    }
    commands = []
    for number, spoilt in enumerate(cases.values()):
        config = site.layout.config(member).with_name(f"spoilt-{number}.yaml")
        config.write_text(yaml.safe_dump({**site.document(member), **spoilt}), encoding="utf-8")
        commands.append(python_module(member.partition("-")[0], "--config", str(config)))

    for command, words, program in zip(commands, cases, run(commands, {}), strict=True):
        assert program.code == 1
        (line,) = program.error.splitlines()
        assert line.startswith(f"error: {command[-1]}:")
        assert words in line
