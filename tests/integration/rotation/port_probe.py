"""Probe of every port of a network: which of them accept a certificate.

Only an explicit refusal counts as refused; a timeout, on a busy machine, does not.
"""

import asyncio
import http.client
import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.cluster.network import Network
from zkp.localcluster.layout import GATEWAY

_TIMEOUT_S = 30.0
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)


class PortProbe:
    """Client with the certificate in `mine` and the roots in `theirs`, which may be newer."""

    def __init__(self, mine: Path, theirs: Path) -> None:
        self._mine = mine
        self._roots = theirs / "ca.pem"

    def accepting_ports(self, network: Network, *, raft: bool = True) -> set[str]:
        """Return the ports of the network that accept the certificate, as "MEMBER PORT".

        A connection that a Raft port accepts replaces that of the peer named in the certificate, so do not probe Raft
        ports with a valid certificate of a coordinator.
        """
        return {
            f"{member} {port}"
            for member, places in network.cluster.profile.addresses.items()
            for port, address in places.items()
            if (raft or port != "raft") and self._is_accepted(member, port, address)
        }

    def is_refused(self, network: Network, but: str = "") -> bool:
        """Return whether every port refuses the certificate, except those of the member `but`."""
        return {port for port in self.accepting_ports(network) if port.split()[0] != but} == set()

    def _is_accepted(self, member: str, port: str, address: str) -> bool:
        if port == "grpc":
            return asyncio.run(self._grpc_accepts(address))
        if port == "raft":
            return self._raft_accepts(address)
        if (member, port) == (GATEWAY, "https"):
            return self._http_accepts(address, "/api/v1/tasks")
        return self._http_accepts(address, "/metrics" if port == "metrics" else "/health")

    async def _grpc_accepts(self, address: str) -> bool:
        credentials = grpc.ssl_channel_credentials(
            self._roots.read_bytes(),
            (self._mine / "key.pem").read_bytes(),
            (self._mine / "certificate.pem").read_bytes(),
        )
        # A pool of its own: the connection of another probe must not be reused.
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                await health.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (*_REFUSED, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                return error.code() not in _REFUSED
        return True

    def _raft_accepts(self, address: str) -> bool:
        """A coordinator sends a hello to an accepted peer, and nothing otherwise."""
        host, _, port = address.rpartition(":")
        try:
            with (
                socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as raw,
                self._context().wrap_socket(raw, server_hostname=host) as connection,
            ):
                return bool(connection.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False

    def _http_accepts(self, address: str, path: str) -> bool:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=_TIMEOUT_S, context=self._context())
        try:
            connection.request("GET", path)
            return connection.getresponse().status in (200, 503)
        except TimeoutError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self._roots)
        context.load_cert_chain(self._mine / "certificate.pem", self._mine / "key.pem")
        return context
