"""A network that `site.yml` has put on a fleet, as its operator sees it: playbooks, the `zkp` command, and ssh.

The inventory is the shipped example for three machines, with the fleet's addresses in place of its own. What the
controller keeps (authority, keys, releases, the operator's identities) lies in a directory of its own.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.commands import attempt, last_words
from tests.hosts.fleet import Fleet
from tests.hosts.host import PATIENCE_S, Host
from tests.hosts.playbook import ANSIBLE, Outcome, Playbook
from tests.integration.cluster.network import eventually
from zkp.daemon.settings import Address

HOSTS = ("host-1", "host-2", "host-3")
EXAMPLE = ANSIBLE / "inventories/example-3-hosts"
_ROLES = {"leader", "follower"}
DAEMONS = ("zkp-coordinator", "zkp-worker", "zkp-gateway")
_TRACES = (
    "find /etc/zkp /etc/systemd/system /etc/haproxy /etc/prometheus /etc/postgresql /etc/nftables.conf /etc/default"
    " /opt/zkp/keys /var/lib/zkp /usr/local /usr/sbin/policy-rc.d /run/systemd/system -maxdepth 4"
    " -not -name '*.segment' -not -name '*.snapshot' -printf '%p %M %u %g\\n' 2>/dev/null | sort;"
    " find /opt/zkp/current/ -printf '%M %u %g\\n' | sort | uniq --count;"
    " systemctl list-unit-files --state=enabled --no-legend;"
    " dpkg-query --show; getent passwd | cut -d: -f1,6,7 | sort"
)


class Deployment:
    """`directory` is the controller's; `members` are the hosts that are in the inventory."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.members = {name: fleet.host(name) for name in HOSTS}
        self.variables: dict[str, Any] = {
            "pki_development": True,
            # So that a loaded machine elects nobody whom no test wanted.
            "coordinator_election_timeout": "1s",
            "firewall_admin_networks": fleet.gateways,
            "zkp_authority": str(directory / "authority"),
            "zkp_controller_state": str(directory / "controller"),
            "zkp_controller_keys": str(directory / "keys"),
            "zkp_controller_identities": str(directory / "identities"),
        }
        self.example = EXAMPLE
        self._groups: dict[str, Any] = {}
        self._runs = 0

    def join(self, name: str, *groups: str) -> None:
        """Put one more host of the fleet into groups of the inventory."""
        self.members[name] = self.fleet.host(name)
        for group in groups:
            self._groups.setdefault(group, {"hosts": {}})["hosts"][name] = {}

    def play(
        self, name: str = "site.yml", *more: str, change: Mapping[str, Any] | None = None, **variables: Any
    ) -> Outcome:
        """Run a playbook to its end; see `begin`."""
        return self.begin(name, *more, change=change, **variables).wait()

    def begin(
        self, name: str = "site.yml", *more: str, change: Mapping[str, Any] | None = None, **variables: Any
    ) -> Playbook:
        """Start a playbook. `change` is one more inventory, which has the last word, `variables` are extra ones."""
        self._runs += 1
        place = self.directory / "runs" / f"{self._runs:03d}"
        place.mkdir(parents=True)
        inventories = [self.example, _write(place / "fleet.yaml", self._inventory())]
        if change is not None:
            inventories.append(_write(place / "change.yaml", dict(change)))
        return Playbook(name, inventories, self.variables | variables, *more, log=place / "output.log")

    def zkp(self, *words: str, role: str = "client", through: str = "coordinators") -> Any:
        """What `zkp WORDS --json` says; AssertionError if it fails.

        through: coordinators, loadbalancer, or HOST:PORT.
        """
        addresses = {"loadbalancer": self.load_balancer, "coordinators": self.coordinators}.get(through, through)
        identity = self.directory / "identities" / role
        program = Path(sys.executable).with_name("zkp")
        done = attempt(str(program), *words, "--json", "--coordinators", addresses, "--identity", str(identity))
        assert done.returncode == 0, f"zkp {' '.join(words)}: {last_words(done)}"
        return json.loads(done.stdout)

    @property
    def load_balancer(self) -> str:
        """Where it takes gRPC."""
        return str(Address(self.members["host-2"].address, 9443))

    @property
    def coordinators(self) -> str:
        """Where each of them takes gRPC."""
        return ",".join(str(Address(self.members[name].address, 9090)) for name in HOSTS)

    def status(self) -> dict[str, Any]:
        """The cluster, as its leader describes it to an admin."""
        return dict(self.zkp("status", role="admin"))

    def leader(self) -> Host:
        """The host on which the leader runs."""
        status = self.status()
        return self.members[str(status["leader"]).removeprefix("coordinator-")]

    def wait_until_well(self) -> None:
        """Until one node leads, every other follows it, every worker is online and the record is ok."""
        eventually("a network that is well", lambda: not self.ailments(), PATIENCE_S)

    def ailments(self) -> list[str]:
        """What is wrong with the network, as its admin sees it."""
        try:
            status = self.status()
        except AssertionError as error:
            return [str(error)]
        found = [f"{node['id']} is {node['role']}" for node in status["nodes"] if node["role"] not in _ROLES]
        found += [f"{node['id']}: {node['problem']}" for node in status["nodes"] if node["problem"]]
        online = {worker["id"] for worker in status["workers"] if worker["state"] == "online"}
        found += [f"{name} takes no tasks" for name in sorted(self.workers - online)]
        if status["database"] != "ok":
            found.append(f"the record is {status['database']}")
        return found

    @property
    def workers(self) -> set[str]:
        """The ids that the inventory gives them; every host is one."""
        return {f"worker-{name}" for name in self.members}

    def prove(self, *, through: str = "loadbalancer") -> dict[str, Any]:
        """One proof, from request to verification; the task as the network tells of it."""
        (task,) = self.zkp("submit", "addition", "--a", "20", "--b", "22", "--wait", through=through)
        assert task["state"] == "completed", task
        return dict(task)

    def submit(self, count: int) -> list[str]:
        """The ids of so many tasks that the network has just accepted; each takes about a third of a second."""
        leaves = Path(__file__).parents[2] / "examples/allowlist.csv"
        words = "submit", "merkle", "--leaves", str(leaves), "--index", "0", "--count", str(count)
        return [str(task["id"]) for task in self.zkp(*words, through="loadbalancer")]

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Task → its state, of those tasks that the network knows."""
        tasks = self.zkp("list", "--limit", "10000")
        return {task["id"]: task["state"] for task in tasks if task["id"] in set(ids)}

    def traces(self) -> dict[str, str]:
        """Host → everything on it that site.yml makes, with owners and modes, as lines."""
        return everywhere([self.members[name] for name in HOSTS], _TRACES)

    def journals(self, lines: int) -> list[tuple[str, str]]:
        """(title, last lines of our units' journals) of every host that answers."""
        units = " ".join(f"-u {daemon}" for daemon in DAEMONS)
        command = f"sudo -n journalctl --no-pager --lines {lines} {units}"
        return [
            (f"{host.name}'s journal", host.ssh(command).stdout) for host in self.members.values() if host.running
        ]

    def running_since(self) -> dict[tuple[str, str], str]:
        """(host, unit) → which process it is and when it was started, of every daemon of ours and its neighbours."""
        found = {}
        for host in self.members.values():
            lines = host.run("systemctl list-units --type=service --state=active --no-legend --plain").splitlines()
            units = [line.split()[0] for line in lines]
            shown = host.run(f"systemctl show --property Id,InvocationID,MainPID {' '.join(units)}")
            for block in shown.strip().split("\n\n"):
                facts = dict(line.split("=", 1) for line in block.splitlines())
                if facts["MainPID"] != "0":
                    found[host.name, facts["Id"]] = f"{facts['MainPID']} {facts['InvocationID']}"
        return found

    def _inventory(self) -> dict[str, Any]:
        return {**self.fleet.reach(list(self.members)), **self._groups}


def _write(path: Path, inventory: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(inventory, sort_keys=False))
    return path


def everywhere(hosts: Sequence[Host], command: str) -> dict[str, str]:
    """Host → what the command, run by root, printed there."""
    return {host.name: host.run(command) for host in hosts}
