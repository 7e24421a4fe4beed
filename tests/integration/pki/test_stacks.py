"""Certificates in the hands of TLS stacks that are not ours: rustls, GnuTLS, Java, Node and NSS.

OpenSSL, BoringSSL and Go are held to them in the other files of this directory.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from pki.ca.profiles import PROFILES
from pki.files import TlsFiles
from pki.tls.material import TlsMaterial, peer_identity
from pki.x509.identity import Role
from tests.integration.pki.authorities import TRUST_DOMAIN, Place
from tests.integration.pki.stacks import (
    CLIENTS,
    GNUTLS,
    JAVA,
    NODE,
    VERIFIERS,
    Get,
    Outcome,
    Verify,
    gnutls_cli,
    java,
    node,
    run,
    uv,
)
from tests.unit.pki.forgery import AGE, old_authority, old_leaf, refused

ADDRESS = "127.0.0.1"


@dataclass
class Server:
    """An HTTPS server of ours, and the names of those who asked it."""

    port: int = 0
    callers: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def serving(files: TlsFiles) -> AsyncIterator[Server]:
    """Mutual TLS as every daemon of ours speaks it."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            server.callers.append(peer_identity(writer.get_extra_info("ssl_object"), TRUST_DOMAIN).name)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
            writer.write(head + b"<html>")
            await writer.drain()
        writer.close()

    context = TlsMaterial.load(files).server_context()
    listening = await asyncio.start_server(serve, ADDRESS, 0, ssl=context)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An authority with a bundle handed out."""
    place = Place.make(tmp_path)
    place.hand_out()
    return place


@pytest.fixture
def old(tmp_path: Path) -> Place:
    """An authority of an earlier release, whose issuing CA constrains URIs."""
    place = Place.make(tmp_path, old_authority(datetime.now(UTC) - AGE))
    place.hand_out()
    return place


async def _asked(get: Get, place: Place, server: TlsFiles, host: str = ADDRESS) -> tuple[list[str], Outcome]:
    """Who the server saw, when a member without any host of its own asks it."""
    client = TlsFiles.in_directory(place.path / "certs" / "ann")
    if not client.certificate.exists():
        client = place.issue("ann", Role.CLIENT, ())
    async with serving(server) as listening:
        outcome = await get(place, client, host, listening.port)
    return listening.callers, outcome


@pytest.mark.parametrize("get", CLIENTS)
async def test_each_stack_asks_a_server_of_addresses_only(get: Get, place: Place) -> None:
    """A server whose inventory has an address and no name is believed, and a client without hosts is let in."""
    callers, outcome = await _asked(get, place, place.issue("gateway-1", Role.GATEWAY, [ADDRESS]))
    assert callers == ["ann"], outcome


@pytest.mark.parametrize("get", CLIENTS)
async def test_each_stack_asks_a_server_by_name(get: Get, place: Place) -> None:
    """A DNS name is verified as an address is."""
    callers, outcome = await _asked(get, place, place.issue("gateway-1", Role.GATEWAY), "localhost")
    assert callers == ["ann"], outcome


@pytest.mark.parametrize("get", CLIENTS)
async def test_each_stack_refuses_another_address(get: Get, place: Place) -> None:
    """A good certificate of another host is not believed, so the acceptance above says something."""
    callers, outcome = await _asked(get, place, place.issue("gateway-1", Role.GATEWAY, ["127.0.0.9"]))
    assert callers == [], outcome


@pytest.mark.parametrize("get", CLIENTS)
async def test_each_stack_enforces_the_name_constraints(get: Get, place: Place) -> None:
    """A leaf for a foreign name, signed with a stolen issuing key, is refused."""
    forged = refused(place.store.authority, datetime.now(UTC), Role.GATEWAY)["foreign DNS name"]
    stolen = forged.write(place.path / "stolen")
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            asked.append(await reader.read(1))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stolen.certificate, stolen.key)
    listening = await asyncio.start_server(serve, ADDRESS, 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        outcome = await get(place, place.issue("ann", Role.CLIENT, ()), ADDRESS, port)
    assert b"".join(asked) == b"", outcome


@pytest.mark.parametrize("verify", VERIFIERS)
async def test_each_verifier_accepts_every_role(verify: Verify, place: Place) -> None:
    """Every role, with an address where it needs one and without any host where it does not."""
    files = {role: place.issue(f"{role}-1", role, [ADDRESS] * PROFILES[role].needs_host) for role in Role}
    place.hand_out()
    outcomes = await verify(place, [one.certificate for one in files.values()])
    assert {path: one for path, one in outcomes.items() if one.code} == {}


def _old_files(place: Place, name: str, role: Role, *hosts: str) -> TlsFiles:
    """A member's files of an earlier release: without the DNS name of its identity."""
    return old_leaf(place.store.authority, name, role, hosts, now=datetime.now(UTC)).write(place.path / "certs")


@pytest.mark.parametrize("get", [CLIENTS[0], CLIENTS[1], CLIENTS[2], CLIENTS[3]])
async def test_an_old_authority_is_refused_until_its_issuing_ca_is_rotated(get: Get, old: Place) -> None:
    """rustls, GnuTLS and Java refuse what was made before, and accept it renewed under a new issuing CA.

    In the middle, a client with an old certificate is served by a renewed server.
    """
    server = _old_files(old, "gateway-1", Role.GATEWAY, ADDRESS)
    _old_files(old, "ann", Role.CLIENT)
    callers, outcome = await _asked(get, old, server)
    assert callers == [], outcome
    old.prepare(root=False)
    old.hand_out()
    old.switch()
    now = datetime.now(UTC)
    old.store.authority.issue("gateway-1", Role.GATEWAY, [ADDRESS], now=now).write(old.path / "certs", replace=True)
    callers, outcome = await _asked(get, old, server)
    assert callers == ["ann"], outcome


@GNUTLS
async def test_a_dns_name_is_enough_for_gnutls(old: Place) -> None:
    """A renewed leaf is accepted under an old issuing CA, so GnuTLS does not have to wait for the rotation."""
    callers, outcome = await _asked(gnutls_cli, old, old.issue("gateway-1", Role.GATEWAY, [ADDRESS]))
    assert callers == ["ann"], outcome


@JAVA
async def test_a_dns_name_is_enough_for_java(old: Place) -> None:
    """The same of Java."""
    callers, outcome = await _asked(java, old, old.issue("gateway-1", Role.GATEWAY, [ADDRESS]))
    assert callers == ["ann"], outcome


async def test_rustls_waits_for_the_rotation(old: Place) -> None:
    """A renewed leaf under an old issuing CA is still refused, for the CA's URI name constraint."""
    callers, outcome = await _asked(uv, old, old.issue("gateway-1", Role.GATEWAY, [ADDRESS]))
    assert callers == []
    assert "NameConstraintViolation" in outcome.text


@pytest.mark.parametrize("get", [CLIENTS[2], CLIENTS[3], CLIENTS[4]])
async def test_stacks_with_revocation_lists_refuse_the_revoked(get: Get, place: Place) -> None:
    """wget, Java and Node read every list of `crl.pem`: a revoked server is refused, another is not."""
    gone, other = (place.issue(name, Role.GATEWAY, [ADDRESS]) for name in ("gateway-1", "gateway-2"))
    kept = TlsFiles(gone.certificate, gone.key, gone.ca)  # the server itself has not heard of it
    place.revoke("gateway-1")
    place.hand_out()
    callers, outcome = await _asked(get, place, kept)
    assert callers == [], outcome
    callers, outcome = await _asked(get, place, other)
    assert callers == ["ann"], outcome


@pytest.mark.parametrize("get", CLIENTS)
async def test_each_stack_reads_both_roots(get: Get, place: Place) -> None:
    """While the root changes, servers of the old root and of the new one are believed."""
    before = place.issue("gateway-1", Role.GATEWAY, [ADDRESS])
    place.prepare(root=True)
    place.hand_out()
    place.switch()
    after = place.issue("gateway-2", Role.GATEWAY, [ADDRESS])
    place.issue("ann", Role.CLIENT, ())
    before.ca.write_bytes(place.ca.read_bytes())
    assert before.crl is not None
    before.crl.write_bytes(place.crl.read_bytes())
    for server in (before, after):
        callers, outcome = await _asked(get, place, server)
        assert callers == ["ann"], outcome


@NODE
async def test_node_reads_the_first_list_of_a_text(place: Place) -> None:
    """All lists in one text are one list to Node, so that the other CA has none, and every server is refused."""
    server = place.issue("gateway-1", Role.GATEWAY, [ADDRESS])
    callers, outcome = await _asked(partial(node, how="together"), place, server)
    assert callers == []
    assert "UNABLE_TO_GET_CRL" in outcome.text


@JAVA
async def test_keytool_imports_the_first_root_of_a_file(place: Place) -> None:
    """While the root changes `ca.pem` has two, and keytool takes one of them and says that it was added."""
    place.prepare(root=True)
    place.hand_out()
    store = ("-keystore", place.path / "trust.p12", "-storepass", "changeit")
    add = ("keytool", "-importcert", "-noprompt", *store)
    added = await run(*add, "-alias", "both", "-file", place.ca)
    assert "Certificate was added to keystore" in added.text
    assert "contains 1 entry" in (await run("keytool", "-list", *store)).text
    for number, root in enumerate(place.roots()):
        path = place.path / f"root-{number}.pem"
        path.write_bytes(root)
        await run(*add, "-alias", f"root-{number}", "-file", path)
    assert "contains 3 entries" in (await run("keytool", "-list", *store)).text


@GNUTLS
async def test_gnutls_cli_takes_lists_of_its_roots_only(place: Place) -> None:
    """The issuing CA's list is refused where only the root is given, although wget takes it."""
    trust = ("--x509cafile", place.ca, "--x509crlfile", place.crl)
    assert "Error setting the x509 CRL file" in (await run("gnutls-cli", *trust, "--port", "1", ADDRESS)).text
