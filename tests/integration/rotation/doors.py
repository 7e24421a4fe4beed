"""Every door of a network, and whether somebody with a certificate gets in.

Only a refusal shuts out: whoever waits in vain, at a machine that is busy, is not refused.
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

_PATIENCE_S = 30.0
_SHUT_OUT = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)


class Visitor:
    """Shows the certificate in `mine`, and trusts the roots of `theirs`, which may be other ones by now."""

    def __init__(self, mine: Path, theirs: Path) -> None:
        self._mine = mine
        self._roots = theirs / "ca.pem"

    def open_doors(self, network: Network, *, raft: bool = True) -> set[str]:
        """Which of the network's ports serve this visitor, as "MEMBER PORT".

        Whoever is let in at a Raft port takes the place of the peer that the certificate names: not for use by a
        coordinator's good one.
        """
        return {
            f"{member} {port}"
            for member, places in network.cluster.profile.addresses.items()
            for port, address in places.items()
            if (raft or port != "raft") and self._is_let_in(member, port, address)
        }

    def is_shut_out(self, network: Network, but: str = "") -> bool:
        """Whether no port serves this visitor, but those of one member."""
        return {door for door in self.open_doors(network) if door.split()[0] != but} == set()

    def _is_let_in(self, member: str, port: str, address: str) -> bool:
        if port == "grpc":
            return asyncio.run(self._may_call(address))
        if port == "raft":
            return self._hears_raft(address)
        if (member, port) == (GATEWAY, "https"):
            return self._gets(address, "/api/v1/tasks")
        return self._gets(address, "/metrics" if port == "metrics" else "/health")

    async def _may_call(self, address: str) -> bool:
        credentials = grpc.ssl_channel_credentials(
            self._roots.read_bytes(),
            (self._mine / "key.pem").read_bytes(),
            (self._mine / "certificate.pem").read_bytes(),
        )
        # A pool of its own: another visitor's connection must not be borrowed.
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                await health.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (*_SHUT_OUT, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                return error.code() not in _SHUT_OUT
        return True

    def _hears_raft(self, address: str) -> bool:
        """A coordinator says hello to a peer, and nothing to anybody else."""
        host, _, port = address.rpartition(":")
        try:
            with (
                socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as raw,
                self._context().wrap_socket(raw, server_hostname=host) as connection,
            ):
                return bool(connection.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False

    def _gets(self, address: str, path: str) -> bool:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=_PATIENCE_S, context=self._context())
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
