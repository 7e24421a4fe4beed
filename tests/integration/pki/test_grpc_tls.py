"""Clients and servers that gRPC (BoringSSL) accepts and refuses, over sockets."""

import json
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from pki.ca.issued import IssuedIdentity
from pki.tls.material import TlsMaterial
from pki.x509.identity import Identity, Role
from tests.integration.pki.endpoints import (
    BAD_CLIENTS,
    BAD_SERVERS,
    HONEST,
    NOW,
    grpc_listener,
    grpc_say,
    hostile_context,
    material,
    refusal,
    tls_listener,
)
from tests.unit.pki.forgery import identity

FOREIGN = "foreign trust domain"


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator."""
    return material(tmp_path, "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker."""
    return material(tmp_path, "worker-1", Role.WORKER)


def _hostile_client(issued: IssuedIdentity, ca_pem: bytes) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(ca_pem, issued.key_pem, issued.certificate_pem)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_members_are_let_in_by_name(server: TlsMaterial, client: TlsMaterial, host: str) -> None:
    """A worker that calls a coordinator by address or name is known as that worker."""
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        assert await grpc_say(listener.port, client.grpc_channel_credentials(), host) == identity().uri
    assert listener.admitted == [identity()]


async def test_hostile_credentials_are_refused_for_their_certificate_only(server: TlsMaterial) -> None:
    """The credentials that the refusals below use let a good certificate through."""
    good = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        assert await grpc_say(listener.port, _hostile_client(good, good.ca_pem)) == identity().uri


@pytest.mark.parametrize("case", sorted(BAD_CLIENTS.keys() - {FOREIGN}))
async def test_bad_clients_are_refused(server: TlsMaterial, case: str) -> None:
    """No call of a client with a bad certificate reaches a handler."""
    credentials = _hostile_client(BAD_CLIENTS[case], server.files.ca.read_bytes())
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        reason = await refusal(lambda: grpc_say(listener.port, credentials))
    assert reason is not None
    assert reason.startswith("UNAVAILABLE")
    assert listener.admitted == []


async def test_a_client_of_another_trust_domain_is_refused_at_its_call(server: TlsMaterial) -> None:
    """gRPC itself lets it in, as no name constraint speaks of URIs: the called server checks the identity."""
    credentials = _hostile_client(BAD_CLIENTS[FOREIGN], server.files.ca.read_bytes())
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        reason = await refusal(lambda: grpc_say(listener.port, credentials))
    assert reason is not None
    assert "is not of the trust domain zkp.local" in reason
    assert listener.admitted == []


async def _calls_to(server: IssuedIdentity, client: TlsMaterial) -> tuple[str | None, list[Identity]]:
    """Why a call to a gRPC server with this certificate failed, and whose calls that server saw."""
    pair = (server.key_pem, server.certificate_pem)
    credentials = grpc.ssl_server_credentials([pair], client.files.ca.read_bytes(), require_client_auth=True)
    async with grpc_listener(credentials) as listener:
        reason = await refusal(lambda: grpc_say(listener.port, client.grpc_channel_credentials()))
    return reason, listener.admitted


@pytest.mark.parametrize("case", sorted(BAD_SERVERS.keys() - {"CA used as a leaf", FOREIGN}))
async def test_bad_servers_are_not_believed(client: TlsMaterial, case: str) -> None:
    """A client makes no call to a server that cannot prove its address."""
    reason, callers = await _calls_to(BAD_SERVERS[case], client)
    assert reason is not None
    assert reason.startswith("UNAVAILABLE")
    assert callers == []


async def test_a_hostile_server_is_refused_for_its_certificate_only(client: TlsMaterial) -> None:
    """With a good certificate the server of the refusals above is called."""
    good = HONEST.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW)
    assert await _calls_to(good, client) == (None, [identity()])


@pytest.mark.parametrize(("case", "believed"), [("CA used as a leaf", False), ("good", True)])
async def test_a_ca_is_not_believed_as_a_server(
    client: TlsMaterial, tmp_path: Path, case: str, believed: bool
) -> None:
    """A client shows its certificate to a leaf, and not to the issuing CA itself."""
    # OpenSSL listens, because gRPC refuses to serve a CA's certificate in the first place
    good = HONEST.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_SERVER, good if believed else BAD_SERVERS[case], tmp_path / "s")
    async with tls_listener(context) as listener:
        await refusal(lambda: grpc_say(listener.port, client.grpc_channel_credentials()))
    assert (identity() in listener.admitted) is believed


async def test_no_certificate_is_refused(server: TlsMaterial) -> None:
    """Who shows nothing makes no call."""
    credentials = grpc.ssl_channel_credentials(server.files.ca.read_bytes())
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        reason = await refusal(lambda: grpc_say(listener.port, credentials))
    assert reason is not None
    assert reason.startswith("UNAVAILABLE")
    assert listener.admitted == []


async def test_plaintext_is_refused(server: TlsMaterial) -> None:
    """An insecure channel makes no call."""
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        reason = await refusal(lambda: grpc_say(listener.port, None))
    assert reason is not None
    assert reason.startswith("UNAVAILABLE")
    assert listener.admitted == []


def test_tls_1_2_is_refused_by_server_and_channel(tmp_path: Path) -> None:
    """In a process that imports `pki` before gRPC, neither end speaks TLS 1.2, and both speak TLS 1.3."""
    # a process of its own: gRPC reads its settings when it is first imported, which other tests have done
    program = [sys.executable, "-m", "tests.integration.pki.old_tls", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == {
        "server TLSv1_2": "refused",
        "server TLSv1_3": "accepted",
        "channel TLSv1_2": "refused",
        "channel TLSv1_3": "accepted",
    }


async def test_two_channels_are_two_identities(server: TlsMaterial, client: TlsMaterial, tmp_path: Path) -> None:
    """Calls of two members on one port are told apart."""
    other = material(tmp_path, "gateway-1", Role.GATEWAY)
    async with grpc_listener(server.grpc_server_credentials()) as listener:
        for one in (client, other, client):
            await grpc_say(listener.port, one.grpc_channel_credentials())
    assert listener.admitted == [client.identity, other.identity, client.identity]
