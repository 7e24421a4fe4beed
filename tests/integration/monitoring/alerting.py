"""A real Alertmanager with the shipped configuration, and whoever it writes to.

What differs from a deployment: the receivers' addresses are the test's own, and a group that is known already is
looked at again after seconds.
"""

import contextlib
import http.client
import http.server
import json
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pki.tls.material import TlsFiles, TlsMaterial
from tests.bench.raft.clusters import free_ports
from tests.integration.cluster.network import eventually
from tests.integration.monitoring.watched import Firing

SHIPPED = Path(__file__).parents[3] / "monitoring" / "alertmanager" / "alertmanager.yml"
_PROGRAM = "prometheus-alertmanager"  # as Debian calls it
_HOST = "127.0.0.1"
_AGAIN = "10s"
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one receiver. status: "firing", or "resolved" when all of it is over."""

    receiver: str
    status: str
    firing: frozenset[Firing]
    resolved: frozenset[Firing]


class Inbox:
    """Keeps what Alertmanager sends: a small web server on a port of its own."""

    def __init__(self) -> None:
        self._kept: deque[Notification] = deque()
        kept = self._kept

        class Receiver(http.server.BaseHTTPRequestHandler):
            """Takes what is posted."""

            def do_POST(self) -> None:
                kept.append(_notification(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(http.HTTPStatus.OK)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the test looks at what came."""

        self._server = http.server.ThreadingHTTPServer((_HOST, 0), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, name="inbox")

    @property
    def address(self) -> str:
        """Where to post to."""
        return f"http://{_HOST}:{self._server.server_address[1]}/"

    def got(self, name: str) -> list[Notification]:
        """The messages that speak of the alert, oldest first."""
        found = list(self._kept)
        return [one for one in found if any(alert.name == name for alert in one.firing | one.resolved)]

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take messages in this context."""
        self._thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def _notification(document: Mapping[str, Any]) -> Notification:
    def those(status: str) -> frozenset[Firing]:
        return frozenset(Firing.of(one["labels"]) for one in document["alerts"] if one["status"] == status)

    return Notification(document["receiver"], document["status"], those("firing"), those("resolved"))


@dataclass(frozen=True, slots=True)
class Known:
    """An alert as Alertmanager has it. silenced_by: the alerts that keep it quiet; none while it is told."""

    firing: Firing
    severity: str
    receivers: frozenset[str]
    silenced_by: frozenset[Firing]


class Alertmanager:
    """One that runs. `address`: HOST:PORT, over mutual TLS."""

    def __init__(self, address: str, inbox: Inbox, identity: Path) -> None:
        self.address = address
        self.inbox = inbox
        self._context = TlsMaterial.load(TlsFiles.in_directory(identity)).client_context()

    def alerts(self) -> list[Known]:
        """What is active now, silenced or told; empty before it has heard of anything."""
        found = self.call("GET", "alerts")
        by_fingerprint = {one["fingerprint"]: Firing.of(one["labels"]) for one in found}
        return [
            Known(
                Firing.of(one["labels"]),
                one["labels"]["severity"],
                frozenset(receiver["name"] for receiver in one["receivers"]),
                frozenset(by_fingerprint[source] for source in one["status"]["inhibitedBy"]),
            )
            for one in found
        ]

    def told(self) -> set[Firing]:
        """The alerts that people hear of."""
        return {known.firing for known in self.alerts() if not known.silenced_by}

    def post(self, alerts: Sequence[Mapping[str, str]]) -> None:
        """Tell it of alerts with these labels, as Prometheus does."""
        self.call("POST", "alerts", [{"labels": dict(labels)} for labels in alerts])

    def ready(self) -> bool:
        """True once it answers."""
        try:
            self.call("GET", "status")
        except OSError:
            return False
        return True

    def call(self, method: str, path: str, document: object = None) -> Any:
        """An answer of its API; raises AssertionError with its words when it refuses, OSError without any."""
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=self._context)
        body = None if document is None else json.dumps(document)
        try:
            connection.request(method, f"/api/v2/{path}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status == http.HTTPStatus.OK, text
        return json.loads(text) if text else None


@contextlib.contextmanager
def alertmanager(directory: Path, identity: Path) -> Iterator[Alertmanager]:
    """One that serves with the identity (of the role prometheus); skips with the reason where it is not installed."""
    program = shutil.which(_PROGRAM)
    if program is None:
        pytest.skip("Alertmanager is not installed: apt install --no-install-recommends prometheus-alertmanager")
    directory.mkdir()
    inbox = Inbox()
    (directory / "alertmanager.yml").write_text(_configuration(inbox.address), encoding="utf-8")
    (directory / "web.yml").write_text(_web(TlsFiles.in_directory(identity)), encoding="utf-8")
    (port,) = free_ports(1)
    address = f"{_HOST}:{port}"
    command = [
        program,
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--web.config.file={directory / 'web.yml'}",
        f"--web.listen-address={address}",
        f"--storage.path={directory / 'data'}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    found = Alertmanager(address, inbox, identity)
    with inbox.open(), (directory / "log").open("wb") as log, _running(command, log.fileno()) as process:
        eventually("the start of Alertmanager", lambda: process.poll() is not None or found.ready())
        assert process.poll() is None, (directory / "log").read_text(encoding="utf-8")
        yield found


@contextlib.contextmanager
def _running(command: Sequence[str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_GRACE_S)


def _configuration(inbox: str) -> str:
    found = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    found["route"]["group_interval"] = _AGAIN
    for receiver in found["receivers"]:
        receiver["webhook_configs"] = [{"url": inbox, "send_resolved": True}]
    return yaml.safe_dump(found)


def _web(files: TlsFiles) -> str:
    served = {
        "cert_file": str(files.certificate),
        "key_file": str(files.key),
        "client_ca_file": str(files.ca),
        "client_auth_type": "RequireAndVerifyClientCert",
        "min_version": "TLS13",
    }
    return yaml.safe_dump({"tls_server_config": served})
