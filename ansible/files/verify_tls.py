"""Tries to get into every TLS port of this host with certificates that must not open it. Run by verify.yml, as root.

    verify_tls.py '{"address": "192.168.1.10", "identities": "/etc/zkp/pki", "watcher": false,
                    "services": [{"name": "metrics", "port": 9091, "kind": "https", "path": "/metrics",
                                  "roles": ["prometheus"]}]}'


Each port is tried in plain text, with TLS 1.2, without a certificate, with one that this program made for itself,
with one of this host whose role is not among `roles`, and, to see that the trial means something, with one whose role
is. Prints JSON: {"faults": ["metrics (9091) lets in …"], "tried": {"metrics": ["plain text", …]}}.
"""

import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # this is run by the release's own Python

_PATIENCE_S = 5.0
_QUIET_S = 1.0  # a Raft peer that is welcome says nothing unasked
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_REFUSED = (ssl.SSLError, ConnectionError)


class Door:
    """One port, and whether a connection to it was accepted."""

    def __init__(self, address: str, service: dict[str, Any]) -> None:
        self._address = address
        self._port = service["port"]
        self._kind = service["kind"]
        self._path = service.get("path", "/")

    def opens(self, context: ssl.SSLContext | None) -> bool:
        """Return whether a connection with this context is accepted; without a context in plain text."""
        try:
            with socket.create_connection((self._address, self._port), _PATIENCE_S) as plain:
                if context is None:
                    return self._answers(plain)
                if self._kind == "postgres":
                    plain.sendall(_SSL_REQUEST)
                    if plain.recv(1) != b"S":
                        return False
                with context.wrap_socket(plain, server_hostname=self._address) as secure:
                    return self._answers(secure)
        except _REFUSED:
            return False
        except TimeoutError:
            return False

    def _answers(self, connection: socket.socket) -> bool:
        if self._kind == "https":
            connection.sendall(f"GET {self._path} HTTP/1.0\r\nHost: verify\r\n\r\n".encode())
            return b" 200 " in connection.recv(4096)[:32]
        if self._kind == "postgres":
            words = b"user\0zkp\0database\0zkp\0\0"
            connection.sendall(struct.pack("!II", 8 + len(words), 196608) + words)
            return connection.recv(9).startswith(b"R" + struct.pack("!II", 8, 0))
        if self._kind == "grpc":
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return connection.recv(9)[3:4] == b"\x04"  # SETTINGS
        connection.settimeout(_QUIET_S)
        try:
            return connection.recv(1) != b""
        except TimeoutError:
            return isinstance(connection, ssl.SSLSocket)  # it stays open


def grpc_opens(address: str, port: int, method: str, identity: Path) -> bool:
    """Whether the holder of this identity may call this method: an answer is an entrance, even a complaint."""
    credentials = grpc.ssl_channel_credentials(
        (identity / "ca.pem").read_bytes(),
        (identity / "key.pem").read_bytes(),
        (identity / "certificate.pem").read_bytes(),
    )
    target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    with grpc.secure_channel(target, credentials) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        try:
            call(b"", timeout=_PATIENCE_S)
        except grpc.RpcError as error:
            return error.code() not in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
    return True


def context(
    ca: Path, pair: tuple[Path, Path] | None, protocols: Sequence[str], *, old: bool = False
) -> ssl.SSLContext:
    """As a client of the network has it, with this certificate or none; `old` offers TLS 1.2 at most."""
    made = ssl.create_default_context(cafile=str(ca))
    if protocols:
        made.set_alpn_protocols(protocols)
    if old:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        made.load_cert_chain(*map(str, pair))
    return made


def stranger(directory: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate with the names of the network's own, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=coordinator-1", "-addext", "subjectAltName=URI:spiffe://zkp.local/admin/admin",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def trials(
    service: dict[str, Any], address: str, identities: dict[str, Path], strange: tuple[Path, Path]
) -> Iterator[tuple[str, bool, Callable[[], bool]]]:
    """(with what, whether it has to open, how to try) for one port."""
    door = Door(address, service)
    ca = next(iter(identities.values())) / "ca.pem"
    speaks = ["h2"] if service["kind"] == "grpc" else ["http/1.1"] if service["kind"] == "https" else []
    yield "plain text", False, partial(door.opens, None)
    yield "no certificate", False, partial(door.opens, context(ca, None, speaks))
    yield "a self-signed certificate", False, partial(door.opens, context(ca, strange, speaks))
    welcome = [identity for role, identity in identities.items() if role in service["roles"]]
    for identity in welcome[:1]:
        pair = identity / "certificate.pem", identity / "key.pem"
        yield "TLS 1.2", False, partial(door.opens, context(ca, pair, speaks, old=True))
        if service["kind"] != "raft":  # where a node does not take itself for one of its peers
            yield f"the certificate of {identity.name}", True, partial(door.opens, context(ca, pair, speaks))
    others = [identity for role, identity in identities.items() if role not in service["roles"]]
    for identity in others:
        what = f"the certificate of {identity.name}"
        if "method" in service:
            yield what, False, partial(grpc_opens, address, service["port"], service["method"], identity)
        else:
            pair = identity / "certificate.pem", identity / "key.pem"
            yield what, False, partial(door.opens, context(ca, pair, speaks))


def main(argument: str) -> int:
    """The exit status: 0, whatever was found."""
    given = json.loads(argument)
    found = {path.parent for path in Path(given["identities"]).glob("*/key.pem")}
    # Servers without a client role, as PostgreSQL, have a certificate that is not for clients.
    identities = {path.name: path for path in sorted(found) if path.name != "postgres"}
    faults: list[str] = []
    tried: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        strange = stranger(Path(place))
        for service in given["services"]:
            if service.get("watched") and not given["watcher"]:
                service["roles"] = []  # for the monitoring hosts' identities alone
            for what, has_to_open, attempt in trials(service, given["address"], identities, strange):
                tried.setdefault(service["name"], []).append(what)
                if attempt() != has_to_open:
                    verb = "does not let in" if has_to_open else "lets in"
                    faults.append(f"{service['name']} ({service['port']}) {verb} a caller with {what}")
    json.dump({"faults": faults, "tried": tried}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
