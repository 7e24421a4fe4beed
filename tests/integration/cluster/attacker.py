"""Whoever should not get in: connections and bytes as an attacker sends them, and what came back.

The TLS contexts are made here by hand, since what they carry no honest program would load.
"""

import random
import socket
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pki.ca.authority import Authority
from pki.files import TlsFiles
from pki.store.store import AuthorityStore
from pki.x509.identity import Role
from zkp.localcluster.layout import Layout

HOSTS = ("127.0.0.1", "localhost")
NOISE = b"\xf5" + random.Random(20).randbytes(4095)  # starts neither like TLS nor like HTTP
TWO_GIB = (2**31).to_bytes(4, "big")
LONG_FRAME = TWO_GIB + b"the beginning of a very long message"
HTTP_REQUEST = b"GET /health HTTP/1.1\r\nHost: zkp\r\nConnection: close\r\n\r\n"
LONG_HTTP = (
    b"POST /api/v1/tasks HTTP/1.1\r\nHost: zkp\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2147483648\r\n\r\n{"
)
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Result of a connection: the received bytes and the error, if any."""

    received: bytes
    error: str


def connect(
    address: str,
    data: bytes,
    context: ssl.SSLContext | None,
    *,
    protocol: str | None = None,
    until: bytes | None = None,
) -> Ending:
    """Send `data` to HOST:PORT, over TLS unless the context is None, and receive the response.

    Args:
        protocol: ALPN protocol to negotiate.
        until: bytes after which to stop; otherwise the server closes the connection.
    """
    host, _, port = address.rpartition(":")
    if context is not None and protocol is not None:
        context.set_alpn_protocols([protocol])
    received = bytearray()
    try:
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as raw:
            stream = raw if context is None else context.wrap_socket(raw, server_hostname=host)
            with stream:
                stream.sendall(data)
                while (until is None or until not in received) and (chunk := stream.recv(65536)):
                    received += chunk
    except TimeoutError:
        raise AssertionError(f"the connection stays open; received so far: {bytes(received)!r}") from None
    except OSError as error:
        return Ending(bytes(received), getattr(error, "reason", None) or type(error).__name__)
    return Ending(bytes(received), "")


class CertificateFactory:
    """Certificates that an intruder may show to one network, and the context to dial with in each."""

    def __init__(self, layout: Layout, directory: Path) -> None:
        self._layout = layout
        self._directory = directory
        self._authority = AuthorityStore.open(layout.pki).authority

    def member(self, name: str) -> ssl.SSLContext:
        """Return a context with the valid certificate of a member."""
        return self._context(TlsFiles.in_directory(self._layout.identity(name)))

    def nobody(self) -> ssl.SSLContext:
        """Return a context without a certificate."""
        return self._context(None)

    def stranger(self) -> ssl.SSLContext:
        """Return a context with a certificate of valid names, issued by another authority."""
        return self._context(self.stranger_files("coordinator-2", Role.COORDINATOR))

    def stranger_files(self, name: str, role: Role, *, trusts_network: bool = True) -> TlsFiles:
        """Write such a certificate, with this network's roots or those of the other authority."""
        now = datetime.now(UTC)
        other = Authority.create(self._authority.scope.trust_domain, now=now)
        issued = other.issue(name, role, HOSTS, now=now)
        if trusts_network:
            issued = replace(issued, ca_pem=(self._layout.identity(name) / "ca.pem").read_bytes())
        return issued.write(self._directory / "stranger", replace=True)

    def expired(self) -> ssl.SSLContext:
        """Return a context with an expired certificate of a coordinator of this network."""
        start = self._authority.issuer.certificate.not_valid_before_utc
        life = timedelta(minutes=1)
        issued = self._authority.issue("coordinator-2", Role.COORDINATOR, HOSTS, now=start, life=life)
        return self._context(issued.write(self._directory / "expired", replace=True))

    def newcomer(self, name: str, role: Role) -> ssl.SSLContext:
        """Return a context with a valid certificate of an unknown member."""
        return self._context(self.newcomer_files(name, role))

    def newcomer_files(self, name: str, role: Role) -> TlsFiles:
        """Write a valid certificate of an unknown member."""
        issued = self._authority.issue(name, role, HOSTS, now=datetime.now(UTC))
        return issued.write(self._directory / "newcomers", replace=True)

    def _context(self, files: TlsFiles | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._layout.identity("admin") / "ca.pem")
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context


def grpc_call(message: bytes) -> bytes:
    """Return the HTTP/2 bytes of a SubmitTask call: preface, SETTINGS, HEADERS, and `message` as DATA."""
    head = {
        ":method": "POST",
        ":scheme": "https",
        ":path": "/zkp.v1.TaskService/SubmitTask",
        ":authority": "127.0.0.1",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    # RFC 7541, section 6.2.2: literal header fields without indexing, not Huffman-encoded
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in head.items())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return preface + _frame(4, 0, 0, b"") + _frame(1, 4, 1, block) + _frame(0, 0, 1, message)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
