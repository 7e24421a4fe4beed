"""The HTTPS listener over real sockets, on both event loops: who gets in, who is told what, who blocks whom."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.daemon.members import HOST, PATIENCE, Answer, Connection, Network, ask, talk
from zkp.daemon import acceptor, https
from zkp.daemon.connections import Bounds
from zkp.daemon.errors import ListenError
from zkp.daemon.https import HttpsListener
from zkp.daemon.monitoring import monitoring_application


class Daemon:
    """A daemon that is nothing but its listener; its state is set by the test."""

    def __init__(self, material: TlsMaterial) -> None:
        self.healthy = True
        self.material = material
        self.now = datetime.now(UTC)
        self.registry = CollectorRegistry()
        Counter("zkp_tests", "A counter to be seen", registry=self.registry).inc(3)
        application = monitoring_application(
            material,
            health=self.health,
            ready=lambda: (True, {"ready": True}),
            registry=self.registry,
            clock=lambda: self.now,
        )
        self.listener = HttpsListener(application, HOST, 0, material)

    def health(self) -> tuple[bool, Mapping[str, object]]:
        return self.healthy, {"id": "coordinator-1", "healthy": self.healthy}

    @property
    def port(self) -> int:
        return self.listener.port


Serving = Callable[[Callable[[Daemon], Awaitable[None]]], None]

DIALLING = [role for role in Role if role is not Role.POSTGRES]  # whose certificates serve alone


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """The network whose members may come in."""
    return Network(tmp_path / "network")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def serving(request: pytest.FixtureRequest, network: Network) -> Serving:
    """Runs a scenario against a listener that is up, and stops it."""

    def run(scenario: Callable[[Daemon], Awaitable[None]]) -> None:
        async def main() -> None:
            daemon = Daemon(network.member(Role.COORDINATOR))
            await daemon.listener.start()
            try:
                await scenario(daemon)
            finally:
                await daemon.listener.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def get(daemon: Daemon, member: TlsMaterial, path: str) -> Answer:
    """One request by a member of the network."""
    return await asyncio.to_thread(ask, daemon.port, member.client_context(), path)


def test_health_is_for_every_role(serving: Serving, network: Network) -> None:
    """Any certificate of the network may ask; 200 when well, 503 when not, with the daemon's words in both."""

    async def scenario(daemon: Daemon) -> None:
        for role in DIALLING:
            answer = await get(daemon, network.member(role), "/health")
            assert (answer.status, answer.json) == (200, {"id": "coordinator-1", "healthy": True})
        daemon.healthy = False
        answer = await get(daemon, network.member(Role.WORKER), "/health")
        assert (answer.status, answer.json) == (503, {"id": "coordinator-1", "healthy": False})
        assert (await get(daemon, network.member(Role.WORKER), "/ready")).json == {"ready": True}

    serving(scenario)


def test_metrics_are_for_prometheus_and_admins(
    serving: Serving, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """The two roles get the registry; every other is told which it would need, and the log says who asked."""

    async def scenario(daemon: Daemon) -> None:
        for role in DIALLING:
            answer = await get(daemon, network.member(role), "/metrics")
            if role in {Role.PROMETHEUS, Role.ADMIN}:
                assert answer.status == 200
                assert answer.headers["content-type"].startswith("text/plain; version=")
                assert b"zkp_tests_total 3.0" in answer.body
            else:
                assert answer.status == 403
                assert answer.json["error"] == (
                    "/metrics needs a certificate of the role admin or prometheus, "
                    f"and spiffe://zkp.local/{role}/{role}-1 has another"
                )

    serving(scenario)
    assert "refused /metrics: /metrics needs a certificate of the role admin" in caplog.text


def test_no_certificate(serving: Serving, network: Network, caplog: pytest.LogCaptureFixture) -> None:
    """A client without a certificate is told so by an alert, and the log names its address."""

    async def scenario(daemon: Daemon) -> None:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            await asyncio.to_thread(ask, daemon.port, network.stranger(), "/health")

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "it showed no client certificate" in record.getMessage()
    assert record.__dict__["peer"].startswith(f"{HOST}:")


def test_another_authority(
    serving: Serving, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate of another CA, though of the same name and role, is refused by alert and log line."""
    context = network.stranger(Network(tmp_path / "elsewhere").files(Role.ADMIN))

    async def scenario(daemon: Daemon) -> None:
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            await asyncio.to_thread(ask, daemon.port, context, "/metrics")

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "its certificate does not verify (" in record.getMessage()


def test_an_expired_certificate(serving: Serving, network: Network, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate whose time is over opens no connection."""
    context = network.stranger(network.files(Role.ADMIN, expired=True))

    async def scenario(daemon: Daemon) -> None:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_EXPIRED"):
            await asyncio.to_thread(ask, daemon.port, context, "/metrics")

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "its certificate does not verify (certificate has expired)" in record.getMessage()


def test_a_certificate_that_expires_on_an_open_connection(serving: Serving, network: Network) -> None:
    """The same connection works, and stops working once the certificate's time is over."""
    context = network.member(Role.ADMIN).client_context()

    async def scenario(daemon: Daemon) -> None:
        connection = await asyncio.to_thread(Connection, daemon.port, context)
        with connection:
            assert (await asyncio.to_thread(connection.ask, "/metrics")).status == 200
            daemon.now += timedelta(days=3650)
            answer = await asyncio.to_thread(connection.ask, "/metrics")
        assert answer.status == 403
        assert "certificate of spiffe://zkp.local/admin/admin-1 expired at " in answer.json["error"]

    serving(scenario)


def test_plain_http(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """A client that speaks plain HTTP reads what is wrong, and learns nothing else."""

    async def scenario(daemon: Daemon) -> None:
        received = await asyncio.to_thread(talk, daemon.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert received.endswith(b'"detail": "the request is plain HTTP; use https://"}')

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "it does not speak TLS" in record.getMessage()


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 16,
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"\x80\x00\x00\x00" + b"x" * 4096,  # 2 GiB, as a length
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"\xaa" * 20000,  # the beginning of a ClientHello
        b"\x16\x03\x03\xff\xff" + b"\x00" * 20000,  # a record longer than TLS allows
    ],
    ids=["all-bytes", "zeros", "ones", "2GiB", "broken-hello", "huge-record"],
)
def test_random_bytes(serving: Serving, network: Network, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """Whatever bytes come, the connection is closed with a line in the log, and others are served."""

    async def scenario(daemon: Daemon) -> None:
        received = await asyncio.to_thread(talk, daemon.port, data)
        assert b"HTTP" not in received
        assert (await get(daemon, network.member(Role.CLIENT), "/health")).status == 200

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert record.getMessage().startswith(f"refused a connection from {HOST}:")


def test_an_old_tls_version(serving: Serving, network: Network, caplog: pytest.LogCaptureFixture) -> None:
    """TLS 1.2 is refused with an alert, and the log says why."""
    context = network.stranger(network.files(Role.ADMIN))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def scenario(daemon: Daemon) -> None:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await asyncio.to_thread(ask, daemon.port, context, "/health")

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "it does not offer TLS 1.3" in record.getMessage()


def test_a_client_that_refuses_the_server(
    serving: Serving, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the client does not trust this node, the node's log says so."""
    context = Network(tmp_path / "elsewhere").member(Role.CLIENT).client_context()

    async def scenario(daemon: Daemon) -> None:
        with warning_noticed() as noticed:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(ask, daemon.port, context, "/health")
            async with asyncio.timeout(PATIENCE):
                await noticed.wait()

    serving(scenario)
    (record,) = warnings_of(caplog)
    assert "it refused this node's certificate or TLS (tlsv1 alert unknown ca)" in record.getMessage()


def test_silent_connections_block_nobody(serving: Serving, network: Network) -> None:
    """With many connections that say nothing, or half a record, a scrape is answered; stopping waits for none."""

    async def scenario(daemon: Daemon) -> None:
        with ExitStack() as stack:
            for number in range(40):
                silent = stack.enter_context(socket.create_connection((HOST, daemon.port)))
                if number % 2:
                    silent.sendall(b"\x16\x03\x01\x02")
            answer = await get(daemon, network.member(Role.PROMETHEUS), "/metrics")
            assert answer.status == 200
            await daemon.listener.stop()

    serving(scenario)


def test_a_silent_connection_is_closed(
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The deadline of a handshake closes the connection from this side, with a line in the log."""
    monkeypatch.setattr(acceptor, "HANDSHAKE_TIMEOUT_S", 0.05)

    async def scenario(daemon: Daemon) -> None:
        for beginning in (b"", b"\x16\x03\x01"):
            assert await asyncio.to_thread(talk, daemon.port, beginning) == b""

    serving(scenario)
    assert [record.getMessage().partition(": ")[2] for record in warnings_of(caplog)] == [
        "it did not finish its TLS handshake within 0.05 seconds"
    ] * 2


def test_too_many_silent_connections_push_out_the_oldest(
    serving: Serving, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of connections without a handshake costs the flood its own connections, and nobody a scrape."""
    monkeypatch.setattr(acceptor, "MAX_WAITING", 4)
    monkeypatch.setattr(acceptor, "HANDSHAKE_TIMEOUT_S", 600.0)

    async def scenario(daemon: Daemon) -> None:
        with ExitStack() as stack:
            flood = [stack.enter_context(socket.create_connection((HOST, daemon.port))) for _ in range(12)]
            assert (await get(daemon, network.member(Role.PROMETHEUS), "/metrics")).status == 200
            assert await asyncio.to_thread(flood[0].recv, 1) == b""

    serving(scenario)


def test_a_connection_that_comes_and_goes_leaves_no_line(
    serving: Serving, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """A load balancer's TCP check is no event."""

    async def scenario(daemon: Daemon) -> None:
        for _ in range(3):
            socket.create_connection((HOST, daemon.port)).close()
        assert (await get(daemon, network.member(Role.CLIENT), "/health")).status == 200

    serving(scenario)
    assert warnings_of(caplog) == []


def test_running_out_of_file_descriptors_is_survived(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When accepting fails for a while, it is said, and tried on; whoever waited is served."""
    monkeypatch.setattr(acceptor, "_ACCEPT_RETRY_S", 0.0)
    failures = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    class Exhausted(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if failures:
                number = failures.pop(0)
                raise OSError(number, os.strerror(number))
            return super().accept()

    async def scenario(daemon: Daemon) -> None:
        listening = Exhausted(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind((HOST, 0))
        listening.listen()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepting = acceptor.TlsAcceptor(listening, context, asyncio.Protocol)
        accepting.start()
        try:
            port = listening.getsockname()[1]
            assert (await asyncio.to_thread(talk, port, b"GET")).startswith(b"HTTP/1.1 400")
        finally:
            await accepting.stop()

    serving(scenario)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "cannot accept connections: Too many open files; retrying",
        "cannot accept connections: Too many open files in system; retrying",
    ]


def test_headers_are_bounded(serving: Serving, network: Network) -> None:
    """A header beyond the bound is refused, and the connection closed."""
    context = network.member(Role.ADMIN).client_context()

    async def scenario(daemon: Daemon) -> None:
        for headers in (f"X-Long: {'a' * 20000}\r\n", "".join(f"X-{n}: a\r\n" for n in range(500))):
            connection = await asyncio.to_thread(Connection, daemon.port, context)
            with connection:
                answer = await asyncio.to_thread(connection.ask, "/health", "GET", headers)
                assert answer.status == 400
                assert await asyncio.to_thread(connection.rest) == b""

    serving(scenario)


def test_unknown_paths_and_methods_are_told_in_json(serving: Serving, network: Network) -> None:
    """What is not there is 404, what is not allowed 405 with what is."""
    context = network.member(Role.ADMIN).client_context()

    async def scenario(daemon: Daemon) -> None:
        missing = await get(daemon, network.member(Role.ADMIN), "/nothing")
        assert missing.headers["content-type"].startswith("application/problem+json")
        assert missing.json == {
            "type": "urn:zkp:problem:no-such-page",
            "title": "No such page",
            "status": 404,
            "detail": "this page does not exist",
            "error": "this page does not exist",
        }
        connection = await asyncio.to_thread(Connection, daemon.port, context)
        with connection:
            answer = await asyncio.to_thread(connection.ask, "/health", "POST", "Content-Length: 0\r\n")
        assert (answer.status, answer.json["type"]) == (405, "urn:zkp:problem:method-not-allowed")
        assert "GET" in answer.headers["allow"]

    serving(scenario)


def test_a_report_that_fails_shows_nothing(
    serving: Serving, network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a daemon's report is 500 without its text; the text is in the log."""

    def broken(_: Daemon) -> tuple[bool, Mapping[str, object]]:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Daemon, "health", broken)

    async def scenario(daemon: Daemon) -> None:
        answer = await get(daemon, network.member(Role.ADMIN), "/health")
        assert (answer.status, answer.json["error"]) == (500, "internal error, see the log")

    serving(scenario)
    assert "hunter2" in caplog.text


def test_new_certificates_are_served_after_a_reload(serving: Serving, network: Network) -> None:
    """The listener follows the material; refusals still reach peers afterwards."""
    material = network.member(Role.COORDINATOR)
    application = monitoring_application(material, ready=lambda: (True, {}))

    async def scenario(_: Daemon) -> None:
        listener = HttpsListener(application, HOST, 0, material)
        await listener.start()
        try:
            before = await asyncio.to_thread(served_serial, listener.port, network.member(Role.CLIENT))
            network.files(Role.COORDINATOR)
            assert material.reload()
            after = await asyncio.to_thread(served_serial, listener.port, network.member(Role.CLIENT))
            assert before != after == f"{material.certificate.serial_number:X}"
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await asyncio.to_thread(ask, listener.port, network.stranger(), "/ready")
        finally:
            await listener.stop()

    serving(scenario)


def test_stopping_finishes_what_is_running(serving: Serving, network: Network) -> None:
    """Idle connections are closed at once, new ones refused, and stopping twice is fine."""
    context = network.member(Role.ADMIN).client_context()

    async def scenario(daemon: Daemon) -> None:
        connection = await asyncio.to_thread(Connection, daemon.port, context)
        with connection:
            assert (await asyncio.to_thread(connection.ask, "/health")).status == 200
            await daemon.listener.stop()
            assert await asyncio.to_thread(connection.rest) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(ask, daemon.port, context, "/health")
        await daemon.listener.stop()

    serving(scenario)


def test_an_address_that_cannot_be_had(serving: Serving, network: Network) -> None:
    """A taken port, a foreign address and an unknown host are one line with the cure."""
    material = network.member(Role.COORDINATOR)

    async def refusal(host: str, port: int) -> str:
        listener = HttpsListener(monitoring_application(material), host, port, material)
        with pytest.raises(ListenError) as caught:
            await listener.start()
        return str(caught.value)

    async def scenario(daemon: Daemon) -> None:
        assert await refusal(HOST, daemon.port) == (
            f"cannot listen on {HOST}:{daemon.port}: Address already in use; "
            "stop the process that has this port, or give another"
        )
        assert "give an address of this machine" in await refusal("192.0.2.1", 8090)
        assert "cannot listen on no-such-host.invalid:8090: " in await refusal("no-such-host.invalid", 8090)

    serving(scenario)


def test_an_idle_connection_ends_when_its_certificate_is_revoked(
    serving: Serving, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at the next request alone, which may never come; other connections stay, new handshakes fail."""
    revoked, other = network.member(Role.CLIENT), network.member(Role.ADMIN)

    async def scenario(daemon: Daemon) -> None:
        idle = await asyncio.to_thread(Connection, daemon.port, revoked.client_context())
        kept = await asyncio.to_thread(Connection, daemon.port, other.client_context())
        with idle, kept:
            for connection in (idle, kept):
                assert (await asyncio.to_thread(connection.ask, "/health")).status == 200
            daemon.material.revoke([revoked.certificate.serial_number])
            assert await asyncio.to_thread(idle.rest) == b""
            assert (await asyncio.to_thread(kept.ask, "/health")).status == 200
        with pytest.raises(OSError, match=r"(?i)revoked|reset|closed"):
            await get(daemon, revoked, "/health")

    serving(scenario)
    assert "closed a connection: certificate" in caplog.text
    assert "certificate revoked" in caplog.text


def test_an_idle_connection_ends_when_its_certificate_expires(serving: Serving, network: Network) -> None:
    """A handshake was good for as long as the connection lasted; it is not any more."""

    async def scenario(daemon: Daemon) -> None:
        brief = network.brief(Role.CLIENT, timedelta(seconds=2))
        connection = await asyncio.to_thread(Connection, daemon.port, brief.client_context())
        with connection:
            assert await asyncio.to_thread(connection.rest) == b""

    serving(scenario)


def test_a_request_by_a_revoked_certificate_is_refused_before_its_connection_is_closed(
    serving: Serving, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very next request, however soon it comes."""
    monkeypatch.setattr(https, "_CHECK_INTERVAL_S", PATIENCE)
    revoked = network.member(Role.CLIENT)

    async def scenario(daemon: Daemon) -> None:
        connection = await asyncio.to_thread(Connection, daemon.port, revoked.client_context())
        with connection:
            assert (await asyncio.to_thread(connection.ask, "/health")).status == 200
            daemon.material.revoke([revoked.certificate.serial_number])
            answer = await asyncio.to_thread(connection.ask, "/health")
            assert answer.status == 403
            assert "is revoked" in answer.json["error"]

    serving(scenario)


def test_open_connections_are_bounded(serving: Serving, network: Network) -> None:
    """A newcomer beyond the bound is served, and the connection that has been idle longest is closed for it."""
    material = network.member(Role.COORDINATOR)
    context = network.member(Role.CLIENT).client_context()
    application = monitoring_application(material, ready=lambda: (True, {}))

    async def scenario(_daemon: Daemon) -> None:
        listener = HttpsListener(application, HOST, 0, material, bounds=Bounds(known=4))
        await listener.start()
        try:
            with ExitStack() as stack:
                opened = []
                for _ in range(5):
                    connection = stack.enter_context(await asyncio.to_thread(Connection, listener.port, context))
                    assert (await asyncio.to_thread(connection.ask, "/ready")).status == 200
                    opened.append(connection)
                for connection in opened[:3]:
                    assert await asyncio.to_thread(connection.rest) == b""
                for connection in opened[3:]:
                    assert (await asyncio.to_thread(connection.ask, "/ready")).status == 200
        finally:
            await listener.stop()

    serving(scenario)


def test_a_connection_with_a_request_under_way_is_left_alone(
    serving: Serving, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """When all are busy, a newcomer is refused in the log; an administrator still gets a place, and an answer."""
    material = network.member(Role.COORDINATOR)
    answering, begun = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        begun.set()
        await answering.wait()
        return web.json_response({})

    application = monitoring_application(material, ready=lambda: (True, {}))
    application.router.add_get("/slow", slow)

    async def scenario(_daemon: Daemon) -> None:
        answering.clear()
        begun.clear()
        caplog.clear()
        listener = HttpsListener(application, HOST, 0, material, bounds=Bounds(known=1))
        await listener.start()
        try:
            client = network.member(Role.CLIENT).client_context()
            connection = await asyncio.to_thread(Connection, listener.port, client)
            with connection:
                waiting = asyncio.create_task(asyncio.to_thread(connection.ask, "/slow"))
                await begun.wait()
                with pytest.raises(OSError, match=r"(?i)reset|eof|closed"):
                    await asyncio.to_thread(
                        ask, listener.port, network.member(Role.WORKER).client_context(), "/ready"
                    )
                admin = network.member(Role.ADMIN).client_context()
                assert (await asyncio.to_thread(ask, listener.port, admin, "/ready")).status == 200
                answering.set()
                assert (await waiting).status == 200
        finally:
            await listener.stop()

    serving(scenario)
    assert "refused a connection: all those that spiffe://zkp.local/worker/worker-1 may have are busy" in caplog.text


@contextmanager
def warning_noticed() -> Iterator[asyncio.Event]:
    """An event that is set once something is logged as a warning or worse."""
    noticed = asyncio.Event()

    class Notice(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            noticed.set()

    handler = Notice(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield noticed
    finally:
        logging.getLogger().removeHandler(handler)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as a warning or worse."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def served_serial(port: int, member: TlsMaterial) -> str:
    """The serial number of the certificate that a server shows."""
    with Connection(port, member.client_context()) as connection:
        return connection.server_serial
