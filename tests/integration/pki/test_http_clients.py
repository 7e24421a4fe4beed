"""curl, HAProxy and Prometheus with certificates and CRLs of this authority."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pki.errors import RejectReason
from pki.files import TlsFiles
from pki.tls.material import TlsMaterial, peer_identity
from pki.x509.identity import Role
from tests.integration.pki.authorities import TRUST_DOMAIN, Place
from tests.integration.pki.endpoints import hostile_context
from tests.unit.pki.forgery import refused

PATIENCE = 60.0  # seconds; only a hanging test waits for it


def find(name: str) -> str | None:
    """Where a program is; Debian keeps HAProxy out of a user's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def needs(name: str) -> pytest.MarkDecorator:
    """Skips where a program is not installed."""
    return pytest.mark.skipif(find(name) is None, reason=f"needs {name}: apt-get install {name}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An authority with a bundle handed out."""
    place = Place.make(tmp_path)
    place.hand_out()
    return place


@contextlib.asynccontextmanager
async def https_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Answers every request with who asks, as a metric; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            peer = writer.get_extra_info("ssl_object")
            who = peer_identity(peer, TRUST_DOMAIN).name if peer.getpeercert() else "nobody"
            body = f'caller{{name="{who}"}} 1\n'.encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def curl(*options: str | Path) -> str:
    """What curl printed, its error included."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), *map(str, options)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode()


def _as(files: TlsFiles, place: Place) -> list[str | Path]:
    """curl's options for a member who looks at revocation lists."""
    return ["--cacert", place.ca, "--crlfile", place.crl, "--cert", files.certificate, "--key", files.key]


@needs("curl")
async def test_curl_and_our_listener_verify_each_other(place: Place) -> None:
    """curl gets through by address and name, not by another name, and not without a certificate."""
    server = TlsMaterial.load(place.issue("gateway-1", Role.GATEWAY))
    client = _as(place.issue("ann", Role.CLIENT), place)
    async with https_server(server.server_context()) as port:
        for host in ("127.0.0.1", "localhost"):
            assert await curl(*client, f"https://{host}:{port}/") == 'caller{name="ann"} 1\n'
        other = ["--resolve", f"n1.zkp.local:{port}:127.0.0.1", f"https://n1.zkp.local:{port}/"]
        assert "SSL: no alternative certificate subject name matches" in await curl(*client, *other)
        assert "caller" not in await curl("--cacert", place.ca, f"https://127.0.0.1:{port}/")
    assert server.statistics.refused[RejectReason.NO_CERTIFICATE] == 1


@needs("curl")
async def test_curl_and_our_listener_refuse_the_revoked(place: Place) -> None:
    """A revoked server is refused by curl, a revoked curl by our listener once it has read the list."""
    files = place.issue("gateway-1", Role.GATEWAY)
    server = TlsMaterial.load(files)
    gone, other = (_as(place.issue(name, Role.CLIENT), place) for name in ("ann", "bob"))
    async with https_server(server.server_context()) as port:
        url = f"https://127.0.0.1:{port}/"
        place.revoke("ann")
        place.hand_out()
        assert "ann" in await curl(*gone, url)  # the listener has not heard of it
        assert files.crl is not None
        files.crl.write_bytes(place.crl.read_bytes())
        assert server.reload()
        assert "caller" not in await curl(*gone, url)  # asyncio closes without the alert that says why
        assert server.statistics.refused[RejectReason.REVOKED] == 1
        assert "bob" in await curl(*other, url)
        place.revoke("gateway-1")
        place.hand_out()
        assert "certificate revoked" in await curl(*other, url)


@needs("curl")
async def test_curl_enforces_name_constraints(place: Place, tmp_path: Path) -> None:
    """What a thief of the issuing key certifies for a foreign name is refused."""
    bad = refused(place.store.authority, datetime.now(UTC), Role.GATEWAY)["foreign DNS name"]
    context = hostile_context(ssl.PROTOCOL_TLS_SERVER, bad, tmp_path / "thief")
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    async with https_server(context) as port:
        answer = await curl("--cacert", place.ca, f"https://127.0.0.1:{port}/")
    assert "permitted subtree violation" in answer


@contextlib.asynccontextmanager
async def program(name: str, *options: str | Path, port: int) -> AsyncIterator[None]:
    """A server of somebody else's, once it listens."""
    process = await asyncio.create_subprocess_exec(
        find(name) or name, *map(str, options), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if process.returncode is not None:
                    assert process.stderr is not None
                    raise RuntimeError((await process.stderr.read()).decode())
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def haproxy_configuration(place: Place, files: TlsFiles, frontend: int, backend: int) -> Path:
    """Mutual TLS 1.3 on both sides, revocation lists included."""
    combined = place.path / "haproxy.pem"
    combined.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    combined.chmod(0o600)
    verified = f"ca-file {place.ca} crl-file {place.crl} verify required"
    configuration = place.path / "haproxy.cfg"
    configuration.write_text(f"""
global
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
frontend clients
    bind 127.0.0.1:{frontend} ssl crt {combined} {verified}
    default_backend gateways
backend gateways
    server gateway-1 127.0.0.1:{backend} ssl crt {combined} {verified} verifyhost localhost
""")
    return configuration


@needs("haproxy")
@needs("curl")
async def test_haproxy_stands_between_with_lists_on_both_sides(place: Place) -> None:
    """HAProxy takes our lists for the whole chain, shows its own certificate to the gateway, and checks both."""
    server = TlsMaterial.load(place.issue("gateway-1", Role.GATEWAY))
    proxy = place.issue("gateway-2", Role.GATEWAY)
    client, gone = (_as(place.issue(name, Role.CLIENT), place) for name in ("ann", "bob"))
    place.revoke("bob")
    place.hand_out()
    async with https_server(server.server_context()) as backend:
        frontend = free_port()
        url = f"https://localhost:{frontend}/"
        configuration = haproxy_configuration(place, proxy, frontend, backend)
        async with program("haproxy", "-db", "-f", configuration, port=frontend):
            assert await curl(*client, url) == 'caller{name="gateway-2"} 1\n'
            assert "revoked" in await curl(*gone, url)
            assert "certificate required" in await curl("--cacert", place.ca, url)
        place.revoke("gateway-1")
        place.hand_out()
        frontend = free_port()
        configuration = haproxy_configuration(place, proxy, frontend, backend)
        async with program("haproxy", "-db", "-f", configuration, port=frontend):
            assert "503 Service Unavailable" in await curl(*client, f"https://localhost:{frontend}/")


@needs("prometheus")
@needs("curl")
async def test_prometheus_scrapes_and_serves_over_mutual_tls(place: Place, tmp_path: Path) -> None:
    """Go's TLS scrapes our listener with a certificate, refuses a thief's, and serves its page with ours."""
    server = TlsMaterial.load(place.issue("coordinator-1", Role.COORDINATOR))
    bad = refused(place.store.authority, datetime.now(UTC), Role.COORDINATOR)["foreign DNS name"]
    thief = hostile_context(ssl.PROTOCOL_TLS_SERVER, bad, tmp_path / "thief")
    thief.verify_mode = ssl.CERT_NONE
    own = place.issue("prometheus-1", Role.PROMETHEUS)
    admin = _as(place.issue("ann", Role.ADMIN), place)
    page = free_port()
    async with https_server(server.server_context()) as good, https_server(thief) as stolen:
        tls = f"{{ca_file: {place.ca}, cert_file: {own.certificate}, key_file: {own.key}}}"
        (tmp_path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: zkp
    scheme: https
    tls_config: {tls}
    static_configs: [{{targets: ["127.0.0.1:{good}", "127.0.0.1:{stolen}"]}}]
""")
        (tmp_path / "web.yml").write_text(f"""
tls_server_config:
  cert_file: {own.certificate}
  key_file: {own.key}
  client_ca_file: {place.ca}
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS13
""")
        options = (
            *(f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
            *(f"--web.listen-address=127.0.0.1:{page}", f"--web.config.file={tmp_path / 'web.yml'}"),
        )
        async with program("prometheus", *options, port=page):
            targets = await _scraped(admin, page)
    assert targets["up"] == (f"127.0.0.1:{good}", "")
    instance, error = targets["down"]
    assert instance == f"127.0.0.1:{stolen}"
    assert "not permitted by any constraint" in error


async def _scraped(client: list[str | Path], page: int) -> dict[str, tuple[str, str]]:
    """Instance and last error of each target by its health, once one is up and one is down."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await curl(*client, f"https://127.0.0.1:{page}/api/v1/targets")
            with contextlib.suppress(ValueError):
                active = json.loads(answer)["data"]["activeTargets"]
                found = {one["health"]: (one["labels"]["instance"], one["lastError"]) for one in active}
                if found.keys() == {"up", "down"}:
                    return found
            await asyncio.sleep(0.2)
