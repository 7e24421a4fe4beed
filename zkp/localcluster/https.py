"""HTTPS requests with an identity of the local cluster: health of daemons, tasks through the gateway."""

import http
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pki.tls.material import TlsFiles, TlsMaterial
from zkp.client.leader_search import parse_address

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; `status` is 0 if there was none."""

    status: int
    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Leader:
    """The leader and its term."""

    id: str
    term: int


class HttpsCaller:
    """JSON over HTTPS with the identity in a directory; raises `TlsError` if it is invalid."""

    def __init__(self, identity: Path) -> None:
        self._context: ssl.SSLContext = TlsMaterial.load(TlsFiles.in_directory(identity)).client_context()

    def get(self, address: str, path: str, *, timeout: float = _TIMEOUT_S) -> Answer:
        """Send a GET request to the daemon at HOST:PORT."""
        return self._call("GET", address, path, None, timeout)

    def post(self, address: str, path: str, document: object, *, timeout: float = 30.0) -> Answer:
        """Send a POST request with a JSON document."""
        return self._call("POST", address, path, json.dumps(document).encode(), timeout)

    def ready(self, address: str) -> bool:
        """Return whether the daemon at HOST:PORT reports that it is ready."""
        return self.get(address, "/ready").status == http.HTTPStatus.OK

    def _call(self, method: str, address: str, path: str, body: bytes | None, timeout: float) -> Answer:
        host, port = parse_address(address)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
        headers = {"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"})}
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return Answer(0, {})
        finally:
            connection.close()
        return Answer(response.status, document if isinstance(document, dict) else {})


def leader_of(reports: Mapping[str, Mapping[str, object]]) -> Leader | None:
    """Return the leader with the highest term among the nodes' health reports (node → document)."""
    claims = []
    for name, report in reports.items():
        raft = report.get("raft")
        if isinstance(raft, dict) and raft.get("is_leader") is True:
            claims.append(Leader(name, int(raft.get("term", 0))))
    return max(claims, key=lambda claim: claim.term, default=None)
