"""Identities of a network made for the tests, and a blocking HTTPS client that shows them."""

import json
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from pki.ca.authority import Authority
from pki.tls.material import TlsFiles, TlsMaterial
from pki.x509.identity import Role

HOST = "127.0.0.1"
TRUST_DOMAIN = "zkp.local"
PATIENCE = 30.0


class Network:
    """An authority of a month ago, and what it issues on demand."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.now = datetime.now(UTC)
        self.born = self.now - timedelta(days=30)
        self._authority = Authority.create(TRUST_DOMAIN, now=self.born)

    def files(self, role: Role, *, expired: bool = False) -> TlsFiles:
        """Certificate, key and roots of the role's first member."""
        now, life = (self.born, timedelta(days=1)) if expired else (self.now, None)
        return self._authority.issue(f"{role}-1", role, [HOST], now=now, life=life).write(
            self._directory, replace=True
        )

    def brief(self, role: Role, life: timedelta) -> TlsMaterial:
        """A member whose certificate is good for no longer than that."""
        issued = self._authority.issue(f"{role}-brief", role, [HOST], now=datetime.now(UTC), life=life)
        return TlsMaterial.load(issued.write(self._directory, replace=True))

    def member(self, role: Role) -> TlsMaterial:
        """The role's first member, ready to serve and to dial."""
        return TlsMaterial.load(self.files(role))

    def stranger(self, files: TlsFiles | None = None) -> ssl.SSLContext:
        """Trusts the network; shows no certificate, or the one in the files, whatever it is worth."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.files(Role.CLIENT).ca)
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One TLS connection, kept open between requests. Blocks: to be used in a thread."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        raw = socket.create_connection((HOST, port), timeout=PATIENCE)
        try:
            self._socket = context.wrap_socket(raw, server_hostname=HOST)
        except BaseException:
            raw.close()
            raise
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    @property
    def server_serial(self) -> str:
        """The serial number of the server's certificate, in hexadecimal."""
        certificate = self._socket.getpeercert() or {}
        return str(certificate.get("serialNumber", "")).lstrip("0")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, path: str, method: str = "GET", headers: str = "") -> Answer:
        """Send a request and read its answer."""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode())
        return self.answer()

    def answer(self) -> Answer:
        """Read one answer. Raises ssl.SSLError with the alert when the server refused the handshake."""
        first = self._file.readline()
        if not first:
            raise ConnectionResetError("closed without an answer")
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self._file.read()


def ask(port: int, context: ssl.SSLContext, path: str) -> Answer:
    """One request on a connection of its own."""
    with Connection(port, context) as connection:
        return connection.ask(path)


def talk(port: int, data: bytes) -> bytes:
    """Send bytes without TLS, and return what comes back until the other side closes."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as raw:
        raw.sendall(data)
        received = b""
        try:
            while piece := raw.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received
