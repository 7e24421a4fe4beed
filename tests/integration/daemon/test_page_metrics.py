"""Requests for a daemon's own pages are counted, by labels that nobody who asks can multiply."""

import asyncio
from pathlib import Path

from prometheus_client import CollectorRegistry

from pki.x509.identity import Role
from tests.integration.daemon.members import HOST, Connection, Network
from zkp.daemon.http_metrics import PageRequests
from zkp.daemon.https import HttpsListener
from zkp.daemon.monitoring import monitoring_application

_ASKED = (
    ("/health", "GET", Role.WORKER, "/health", 503),
    ("/health", "HEAD", Role.WORKER, "/health", 503),
    ("/ready", "GET", Role.WORKER, "/ready", 200),
    ("/metrics", "GET", Role.PROMETHEUS, "/metrics", 200),
    ("/metrics", "GET", Role.WORKER, "/metrics", 403),
    ("/metrics?name[]=zkp", "GET", Role.ADMIN, "/metrics", 200),
    *((f"/made-up-{number}", "GET", Role.ADMIN, "unknown", 404) for number in range(5)),
    ("/health", "POST", Role.ADMIN, "unknown", 405),
)
"""(path, method, role, route and code that it counts as)."""


async def test_requests_count_by_page_and_status(tmp_path: Path) -> None:
    """Of two applications of one daemon together; every unknown path counts as the same."""
    network, registry = Network(tmp_path / "network"), CollectorRegistry()
    material, requests = network.member(Role.COORDINATOR), PageRequests(registry)
    reports = monitoring_application(
        material, health=lambda: (False, {}), ready=lambda: (True, {}), requests=requests
    )
    metrics = monitoring_application(material, registry=registry, requests=requests)
    listeners = {path: HttpsListener(app, HOST, 0, material) for path, app in (("/", reports), ("/metrics", metrics))}
    expected: dict[tuple[str, str], int] = {}
    try:
        for listener in listeners.values():
            await listener.start()
        for path, method, role, route, code in _ASKED:
            port = listeners["/metrics" if path.startswith("/metrics") else "/"].port
            assert await asyncio.to_thread(status, port, network, path, method, role) == code, path
            expected[route, str(code)] = expected.get((route, str(code)), 0) + 1
    finally:
        for listener in listeners.values():
            await listener.stop()
    (family,) = (one for one in registry.collect() if one.name == "zkp_https_requests")
    counts = [one for one in family.samples if one.name == "zkp_https_requests_total"]
    assert {(one.labels["route"], one.labels["code"]): one.value for one in counts} == expected


def status(port: int, network: Network, path: str, method: str, role: Role) -> int:
    """What a request by a member with the role is answered."""
    with Connection(port, network.member(role).client_context()) as connection:
        connection.send(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.rest().split()[1])
