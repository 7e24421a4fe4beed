"""Calls of the gateway over HTTPS without the client library."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pki.files import TlsFiles
from pki.tls.material import TlsMaterial
from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network

TASKS = "/api/v1/tasks"


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (lower-case names) and JSON document of a response."""

    status: int
    headers: Mapping[str, str]
    document: Any


class GatewayCaller:
    """Calls the network's gateway with the client's certificate."""

    def __init__(self, network: Network) -> None:
        files = TlsFiles.in_directory(network.layout.identity("client"))
        self._context = TlsMaterial.load(files).client_context()
        self._host, _, port = network.address("gateway", "https").rpartition(":")
        self._port = int(port)

    def __call__(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request; a `body` that is not bytes is encoded as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if data is not None else {}
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=WAIT_TIMEOUT_S, context=self._context
        )
        try:
            connection.request(method, path, data, {**given, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, json.loads(text) if text else None)
        finally:
            connection.close()

    def submit(self, kind: str, body: object, key: str | None = None) -> Reply:
        """Submit a task; `kind` is the last part of the path, "" for the generic endpoint."""
        path = f"{TASKS}/{kind}" if kind else TASKS
        return self("POST", path, body, None if key is None else {"Idempotency-Key": key})

    def completed(self, task_id: str) -> Mapping[str, Any]:
        """Wait until the task is completed, and return it."""
        reply = self("GET", f"{TASKS}/{task_id}?wait=60")
        assert (reply.status, reply.document["state"]) == (200, "completed"), reply
        document: Mapping[str, Any] = reply.document
        return document

    def ids(self) -> set[str]:
        """Return the ids of all tasks, page by page."""
        found: set[str] = set()
        token = ""
        while True:
            page = self("GET", f"{TASKS}?page_size=100{token}").document
            found |= {task["id"] for task in page["tasks"]}
            if page["next_page_token"] is None:
                return found
            token = f"&page_token={page['next_page_token']}"
