"""One network at work, watched by a real Prometheus: targets, and every query of every dashboard."""

import asyncio
import http.client
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.files import TlsFiles
from pki.tls.material import TlsMaterial
from tests.integration.cluster.gateway_calls import TASKS, GatewayCaller
from tests.integration.cluster.network import Network, eventually
from tests.integration.cluster.work import finished, submission, submit
from tests.integration.monitoring.watched import Watched, watched
from tests.unit.monitoring import shipped
from zkp.cli.app import run
from zkp.client.model import TaskState
from zkp.localcluster.layout import ADMIN, CLIENT, COORDINATORS, GATEWAY, POSTGRES, PROMETHEUS

WORKERS = ("worker-1", "worker-2")
_CIRCUITS = ("addition", "range_proof", "merkle_proof")
_VARIABLES = {"$__rate_interval": "1m", "$node": ".*", "$circuit": ".*"}
_METRICS = {COORDINATORS[0]: "metrics", "worker-1": "health", GATEWAY: "health"}
_EXCEPTIONS = {
    "zkp_crl_expiry_seconds",  # only where a list was rolled out
}


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Watched]:
    """A watched network that has had work of every kind, twice, so that every rate has something to show."""
    with watched(tmp_path_factory.mktemp("dashboards"), keys) as found:
        for _ in range(2):
            asyncio.run(work(found.network))
            scraped(found)
        yield found


async def work(network: Network) -> None:
    """Tasks of every circuit through both doors, one that fails, listings from the record."""
    call = GatewayCaller(network)
    async with network.client() as client:
        ids = await submit(client, *(submission(circuit) for circuit in _CIRCUITS))
        false = submission("addition", a=1, b=2)
        ids += await submit(client, type(false)(false.task_id, false.circuit, false.inputs, ("7",)))
        replies = [await asyncio.to_thread(call.submit, "addition", {"a": 1, "b": number}) for number in range(3)]
        ids += [reply.document["id"] for reply in replies]
        ended = await finished(client, ids)
        assert [task.state for task in ended.values()].count(TaskState.FAILED) == 1
    assert (await asyncio.to_thread(call, "GET", TASKS)).status == 200


def scraped(found: Watched) -> None:
    """Wait until Prometheus has seen two more rounds."""
    rounds = "min(count_over_time(up[5m]))"
    before = found.query(rounds)[0].value
    eventually("two more scrapes", lambda: found.query(rounds)[0].value >= before + 2)


def test_every_target_is_up(at_work: Watched) -> None:
    """Each daemon by its node's id, over mutual TLS."""
    targets = at_work.network.cluster.monitor()
    assert {(target.node, target.health) for target in targets} == {
        (node, "up") for node in (*COORDINATORS, *WORKERS, GATEWAY)
    }


@pytest.mark.parametrize("member", _METRICS)
def test_metrics_are_for_prometheus_and_admins(at_work: Watched, member: str) -> None:
    """Without a certificate there is not even a connection; with another role there is no page."""
    network = at_work.network
    place = network.address(member, _METRICS[member])
    for name in (PROMETHEUS, ADMIN):
        assert fetch(place, context_of(network, name)) == 200
    for name in (CLIENT, "worker-2"):
        assert fetch(place, context_of(network, name)) == 403
    bare = ssl.create_default_context(cafile=str(network.layout.identity(ADMIN) / "ca.pem"))
    with pytest.raises((OSError, http.client.HTTPException)):
        fetch(place, bare)


def context_of(network: Network, name: str) -> ssl.SSLContext:
    """To dial as one of the network's members."""
    return TlsMaterial.load(TlsFiles.in_directory(network.layout.identity(name))).client_context()


def fetch(place: str, context: ssl.SSLContext) -> int:
    """The status of GET /metrics."""
    host, _, port = place.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status
    finally:
        connection.close()


def with_values(expression: str) -> str:
    """The query as Grafana sends it when everything is chosen."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("name", sorted(shipped.dashboards()))
def test_every_query_returns_data(at_work: Watched, name: str) -> None:
    """A panel that shows nothing, or an error, is worse than none."""
    silent = [
        (title, expression)
        for title, expression in shipped.expressions(shipped.dashboards()[name])
        if not at_work.query(with_values(expression))
    ]
    assert silent == []


def test_every_variable_has_values(at_work: Watched) -> None:
    """What Grafana offers to choose from."""
    for dashboard in shipped.dashboards().values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
                assert found, variable["definition"]
                values = at_work.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
                assert values, (dashboard["title"], variable["name"])


def test_every_metric_that_rules_ask_for_is_there(at_work: Watched) -> None:
    """Held against what the daemons export, and not against what their source seems to say."""
    known = set(at_work.ask("label/__name__/values"))
    asked = {name for alert in shipped.alerts() for name in shipped.names(alert.expr)}
    recorded = [expression for record in shipped.records().values() for expression in record]
    asked |= {name for expression in recorded for name in shipped.names(expression)}
    assert asked - known - _EXCEPTIONS == set()


def test_a_calm_network_is_silent(at_work: Watched) -> None:
    """No rule of logic fires while nothing is wrong; what depends on this machine's disk and load is left out."""
    of_the_machine = {"DiskNearlyFull", "FsyncSlow", "LatencyBudgetBurning", "RepeatedElections"}
    assert {found.name for found in at_work.firing()} - of_the_machine == set()


def test_successful_calls_count_as_such(at_work: Watched) -> None:
    """The error ratio would be 100 % otherwise."""
    counts = at_work.query('sum by (code) (zkp_rpc_requests_total{method=~"/zkp.v1.(Task|Worker)Service/.*"})')
    codes = {sample.labels["code"] for sample in counts}
    assert "OK" in codes
    assert "UNKNOWN" not in codes


def test_a_trace_gathers_a_task_from_every_node(at_work: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """The door it came through, who proved it, who accepted it, and the cluster's own times, in order."""
    task_id = GatewayCaller(at_work.network).submit("addition", {"a": 20, "b": 22}).document["id"]
    GatewayCaller(at_work.network).completed(task_id)
    arguments = ["trace", task_id, "--json", "--dir", str(at_work.network.layout.root)]

    def told() -> list[dict[str, str]] | None:
        capsys.readouterr()
        assert run(arguments) == 0
        found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
        return found if any("answered 200" in one["message"] for one in found) else None

    timeline = eventually("the last line of its life", told)
    nodes = {moment["node"] for moment in timeline}
    assert {GATEWAY, "cluster"} <= nodes
    assert nodes & set(COORDINATORS)
    assert nodes & set(WORKERS)
    assert timeline == sorted(timeline, key=lambda moment: moment["at"])
    order = [moment["message"].partition(",")[0] for moment in timeline if moment["node"] == "cluster"]
    # Its proof may have come before the word that it had been begun.
    assert [each for each in order if each != "started"] == ["accepted", "assigned", "completed"]


def test_down_ends_prometheus_too(at_work: Watched) -> None:
    """Last in this module: nothing of the network is left."""
    cluster = at_work.network.cluster
    assert {member.name for member in cluster.members()} >= {PROMETHEUS, POSTGRES}
    cluster.down()
    assert all(member.pid is None for member in cluster.members())
