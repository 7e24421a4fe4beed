"""HTTPS calls with an identity of the local cluster: how a daemon is, and tasks through the gateway."""

import http
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pki.tls.material import TlsFiles, TlsMaterial
from zkp.client.leader_search import parse_address

_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 when nothing did."""

    status: int
    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, and since which term."""

    id: str
    term: int


class HttpsCaller:
    """JSON over HTTPS as the member whose identity lies in a directory. Raises `TlsError` if it is unusable."""

    def __init__(self, identity: Path) -> None:
        self._context: ssl.SSLContext = TlsMaterial.load(TlsFiles.in_directory(identity)).client_context()

    def get(self, address: str, path: str, *, timeout: float = _TIMEOUT_SECONDS) -> Answer:
        """GET from the daemon at HOST:PORT."""
        return self._call("GET", address, path, None, timeout)

    def post(self, address: str, path: str, document: object, *, timeout: float = 30.0) -> Answer:
        """POST a JSON document."""
        return self._call("POST", address, path, json.dumps(document).encode(), timeout)

    def ready(self, address: str) -> bool:
        """True when the daemon at HOST:PORT says that it is ready to serve."""
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
    """The leader of the highest term among what nodes say of themselves (node → health document)."""
    claims = []
    for name, report in reports.items():
        raft = report.get("raft")
        if isinstance(raft, dict) and raft.get("is_leader") is True:
            claims.append(Leader(name, int(raft.get("term", 0))))
    return max(claims, key=lambda claim: claim.term, default=None)
