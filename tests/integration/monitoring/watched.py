"""A network that a real Prometheus watches, with the shipped rules in a hurry: durations are a fraction of theirs."""

import contextlib
import http.client
import json
import math
import re
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.integration.cluster.network import Network, running
from zkp.localcluster import prometheus

FOR_HURRY, RANGE_HURRY = 12, 60
"""What durations of `for:` and of ranges are divided by."""
_SHORTEST_S = 5  # for a Prometheus that looks once a second, on a loaded machine
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FOR = re.compile(r"(?m)^(\s*for: )(\d+)([smh])$")
_RANGE = re.compile(r"\[(\d+)([smh])\]")
_INTERVALS = re.compile(r"(?m)^(\s*(?:scrape|evaluation)_interval: )\S+$")
_TIMEOUT = re.compile(r"(?m)^(\s*scrape_timeout: )\S+$")


@dataclass(frozen=True)
class Sample:
    """One series of an answer."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Firing:
    """An alert that fires. about: the label that tells it from others of its name, where there is one."""

    name: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.name}({self.about})"

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Self:
        """From an alert's labels."""
        about = next((labels[key] for key in ("node", "circuit", "backlog") if key in labels), "")
        return cls(labels["alertname"], about)


class Watched:
    """The network, and what Prometheus says of it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.address = prometheus.address(network.cluster.profile)

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus's API; raises AssertionError with its words when it refuses."""
        query = urllib.parse.urlencode(parameters)
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{path}?{query}")
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        assert answer["status"] == "success", (parameters, answer["error"])
        return answer["data"]

    def query(self, expression: str) -> list[Sample]:
        """Every series of an instant query whose value is a number."""
        found = self.ask("query", query=expression)["result"]
        samples = [Sample(one["metric"], float(one["value"][1])) for one in found]
        return [sample for sample in samples if not math.isnan(sample.value)]

    def firing(self, *, or_pending: bool = False) -> set[Firing]:
        """The alerts that fire now; with those that are about to, if asked for."""
        states = {"firing", "pending"} if or_pending else {"firing"}
        alerts = [alert["labels"] for alert in self.ask("alerts")["alerts"] if alert["state"] in states]
        return {Firing.of(labels) for labels in alerts}


@contextlib.contextmanager
def watched(directory: Path, keys: Path, *, range_hurry: int = RANGE_HURRY, **settings: str) -> Iterator[Watched]:
    """A network that is up, and a Prometheus that scrapes all of it, once a second.

    range_hurry: what the rules' ranges are divided by. settings: of the network's daemons.
    """
    with pytest.MonkeyPatch.context() as patch:
        hurried_rules = in_a_hurry(prometheus.SHIPPED, directory / "hurry", range_hurry)
        patch.setattr(prometheus, "SHIPPED", hurried_rules)
        with running(directory / "network", keys, variables=settings) as network:
            network.cluster.monitor()
            yield Watched(network)


def in_a_hurry(shipped: Path, place: Path, range_hurry: int) -> Path:
    """The shipped configuration and rules with every duration divided."""
    shutil.copytree(shipped, place)
    for file in place.rglob("*.yml"):
        file.write_text(hurried(file.read_text(encoding="utf-8"), range_hurry), encoding="utf-8")
    return place


def hurried(text: str, range_hurry: int) -> str:
    """A configuration or rules with shorter durations; thresholds stay what they are."""

    def shorter(number: str, unit: str, hurry: int) -> str:
        return f"{max(int(number) * _SECONDS[unit] // hurry, _SHORTEST_S)}s"

    text = _FOR.sub(lambda found: f"{found[1]}{shorter(found[2], found[3], FOR_HURRY)}", text)
    text = _RANGE.sub(lambda found: f"[{shorter(found[1], found[2], range_hurry)}]", text)
    return _TIMEOUT.sub(r"\g<1>1s", _INTERVALS.sub(r"\g<1>1s", text))
