"""Reload with open connections: new handshakes use the new files, open connections continue."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop

from pki.ca.authority import Authority
from pki.tls.material import TlsError, TlsMaterial, peer_certificate
from pki.x509.identity import Role
from tests.integration.pki.endpoints import (
    HONEST,
    NOW,
    grpc_listener,
    grpc_say,
    material,
    refusal,
    tls_connection,
    tls_greeting,
    tls_listener,
)
from tests.unit.pki.forgery import HOSTS, authority, identity

NEXT = authority(NOW)  # the authority after a change of root
BOTH = replace(HONEST, roots=(*HONEST.roots, *NEXT.roots))  # signs as before, and says to trust both


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator."""
    return material(tmp_path / "old", "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker."""
    return material(tmp_path / "old", "worker-1", Role.WORKER)


def renew(which: TlsMaterial, by: Authority) -> None:
    """New files in the place of the old, and a reload."""
    issued = by.issue(which.identity.name, which.identity.role, HOSTS, now=NOW)
    issued.write(which.files.key.parent.parent, replace=True)
    assert which.reload()


async def test_open_connections_go_on_and_new_ones_see_the_new_certificate(
    server: TlsMaterial, client: TlsMaterial
) -> None:
    """A listener that was started before the renewal serves the new certificate, and drops nobody."""
    async with (
        tls_listener(server.server_context()) as listener,
        tls_connection(listener.port, client.client_context()) as (reader, writer),
    ):
        await reader.readline()
        renew(server, HONEST)
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        async with tls_connection(listener.port, client.client_context()) as (again, connection):
            await again.readline()
            shown = peer_certificate(connection.get_extra_info("ssl_object"))
    assert shown.serial == server.certificate.serial_number


async def test_a_grpc_stream_goes_on_and_new_channels_see_the_new_certificate(
    server: TlsMaterial, client: TlsMaterial
) -> None:
    """After a change of root an open stream goes on, a new root's member is let in, an old one's is not."""
    old = client.grpc_channel_credentials()
    async with (
        grpc_listener(server.grpc_server_credentials()) as listener,
        grpc.aio.secure_channel(f"127.0.0.1:{listener.port}", old) as channel,
    ):
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Echo/Stream")
        stream = open_stream()
        await stream.write(b"before")
        assert await stream.read() == b"before"
        renew(server, NEXT)
        await stream.write(b"after")
        assert await stream.read() == b"after"
        assert await refusal(lambda: grpc_say(listener.port, old))
        renew(client, NEXT)
        assert await grpc_say(listener.port, client.grpc_channel_credentials()) == identity().uri
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_two_roots_overlap_and_one_ends(server: TlsMaterial, client: TlsMaterial) -> None:
    """While both roots are trusted all members meet, whichever signed them; afterwards the old one is refused."""
    context, credentials = server.server_context(), server.grpc_server_credentials()
    async with tls_listener(context) as tls, grpc_listener(credentials) as rpc:

        async def meet() -> tuple[str | None, str | None]:
            return (
                await refusal(lambda: tls_greeting(tls.port, client.client_context())),
                await refusal(lambda: grpc_say(rpc.port, client.grpc_channel_credentials())),
            )

        assert await meet() == (None, None)
        renew(server, BOTH)
        renew(client, BOTH)
        assert await meet() == (None, None)
        renew(client, replace(NEXT, roots=BOTH.roots))  # signed by the new root, trusts both
        assert await meet() == (None, None)
        renew(server, NEXT)  # trusts the new root alone
        assert await meet() == (None, None)
        renew(client, BOTH)  # an old certificate comes back
        assert None not in await meet()


async def test_a_broken_pair_disturbs_nobody(server: TlsMaterial, client: TlsMaterial) -> None:
    """A refused reload leaves both kinds of listener as they were."""
    context, credentials = server.server_context(), server.grpc_server_credentials()
    async with tls_listener(context) as tls, grpc_listener(credentials) as rpc:
        server.files.key.write_bytes(client.files.key.read_bytes())
        with pytest.raises(TlsError, match="is not the key of"):
            server.reload()
        assert await tls_greeting(tls.port, client.client_context()) == str(identity())
        assert await grpc_say(rpc.port, client.grpc_channel_credentials()) == identity().uri


def test_uvloop_follows_a_reload_too(server: TlsMaterial, client: TlsMaterial) -> None:
    """The event loop that coordinators run on serves the new certificate and forgets the old root alike."""

    async def scenario() -> None:
        old = client.client_context()
        async with tls_listener(server.server_context()) as listener:
            assert await tls_greeting(listener.port, old) == str(identity())
            renew(server, NEXT)
            assert await refusal(lambda: tls_greeting(listener.port, old))
            renew(client, NEXT)
            assert await tls_greeting(listener.port, client.client_context()) == str(identity())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
