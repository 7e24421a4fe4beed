"""Unauthorized connections to every port of a running network: rejected with a reason and without effect.

After each attempt the leader, its term and every process are the same, and a task is still proved.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import hpack
import pytest
from hyperframe.frame import HeadersFrame

from coordinator.raft.transport import framing
from pki.x509.identity import Role
from tests.integration.cluster.attacker import (
    HTTP_REQUEST,
    LONG_FRAME,
    LONG_HTTP,
    NOISE,
    TWO_GIB,
    CertificateFactory,
    connect,
    grpc_call,
)
from tests.integration.cluster.network import Network, eventually
from tests.unit.rpc.http2.peer import parsed
from zkp.localcluster.layout import COORDINATORS, GATEWAY
from zkp.localcluster.process import python_module
from zkp.protocol.v1 import raft_pb2 as raft_pb

RAFT, GRPC = "raft", "grpc"
COORDINATOR = "coordinator-1"
DIALLED = "coordinator-3"  # both other nodes connect to it
PORTS = (
    (COORDINATOR, RAFT),
    (COORDINATOR, GRPC),
    (COORDINATOR, "health"),
    (COORDINATOR, "metrics"),
    ("worker-1", "health"),
    (GATEWAY, "https"),
    (GATEWAY, "health"),
)
HTTPS_PORTS = tuple(port for port in PORTS if port[1] not in (RAFT, GRPC))
RESET_OF_STREAM_1 = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x00"  # RFC 9113, section 6.4; NO_ERROR
EVERY_PORT = pytest.mark.parametrize(("member", "purpose"), PORTS)


@pytest.fixture(scope="module")
def network(calm_network: Network) -> Network:
    """The network under attack."""
    return calm_network


@pytest.fixture(scope="module")
def certificates(network: Network, tmp_path_factory: pytest.TempPathFactory) -> CertificateFactory:
    """Certificates that an attacker may present."""
    return CertificateFactory(network.layout, tmp_path_factory.mktemp("certificates"))


@dataclass
class Port:
    """One port of a daemon, with the daemon's log from the creation of this object on."""

    network: Network
    member: str
    purpose: str

    def __post_init__(self) -> None:
        self._logged = self.network.log_size(self.member)

    @property
    def address(self) -> str:
        return self.network.address(self.member, self.purpose)

    @property
    def protocol(self) -> str | None:
        """ALPN protocol that this port requires."""
        return "h2" if self.purpose == GRPC else None

    def logged(self, *words: str) -> str:
        """Wait for a log line with all of these words, and return it."""

        def found() -> str | None:
            lines = self.network.log(self.member, self._logged).splitlines()
            return next((line for line in lines if all(word in line for word in words)), None)

        return eventually(f"{' … '.join(words)} in the log of {self.member}", found, 20.0)


@pytest.fixture
def port(network: Network, member: str, purpose: str) -> Port:
    """The port under test."""
    return Port(network, member, purpose)


@pytest.fixture(autouse=True)
def no_effect(network: Network) -> Iterator[None]:
    """See `Network.unmoved`."""
    with network.unmoved():
        yield


# ---------------------------------------------------------------- before a request


ALERTS = {
    "nobody": ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "CERTIFICATE_REQUIRED"),
    "stranger": ("TLSV1_ALERT_UNKNOWN_CA", "UNKNOWN_CA"),
    "expired": ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "CERTIFICATE_EXPIRED"),
}
LOGGED = {
    "nobody": "it showed no client certificate",
    "stranger": "its certificate does not verify",
    "expired": "certificate has expired",
}


# Clients with an API key show no certificate at the gateway's port: see the test of just that.
@pytest.mark.parametrize(
    ("member", "purpose", "who"),
    [(*port, who) for port in PORTS for who in LOGGED if (port[1], who) != ("https", "nobody")],
)
def test_a_caller_without_a_good_certificate_is_refused(
    port: Port, certificates: CertificateFactory, who: str
) -> None:
    """No certificate, one of another authority, one that has expired: no byte of an answer, and a line in the log.

    The alert tells the caller why.
    """
    context = {"nobody": certificates.nobody, "stranger": certificates.stranger, "expired": certificates.expired}[
        who
    ]()

    ending = connect(port.address, HTTP_REQUEST, context, protocol=port.protocol)

    assert ending.received == b""
    assert ending.error in ALERTS[who]
    port.logged(LOGGED[who])


def test_the_task_pages_want_to_know_who_calls(network: Network, certificates: CertificateFactory) -> None:
    """Without a certificate or API key the gateway's endpoints return 401 with the accepted credentials."""
    port = Port(network, GATEWAY, "https")
    request = HTTP_REQUEST.replace(b"/health", b"/api/v1/tasks")

    ending = connect(port.address, request, certificates.nobody())

    assert ending.received.startswith(b"HTTP/1.1 401 ")
    assert b"certificate" in ending.received
    port.logged("GET /api/v1/tasks answered 401")


@EVERY_PORT
@pytest.mark.parametrize("said", ["noise", "a length of 2 GiB", "plain HTTP"])
def test_what_is_no_tls_is_refused(port: Port, said: str) -> None:
    """Random bytes, a frame of 2 GiB and plain HTTP close the connection, with a line in the log."""
    data = {"noise": NOISE, "a length of 2 GiB": LONG_FRAME, "plain HTTP": HTTP_REQUEST}[said]

    ending = connect(port.address, data, None)

    if said == "plain HTTP" and port.purpose not in (RAFT, GRPC):
        assert ending.received.startswith(b"HTTP/1.1 400 ")
        assert ending.received.endswith(b'"detail": "the request is plain HTTP; use https://"}')
    else:
        assert ending.received == b""
    words = {RAFT: "refused a Raft connection", GRPC: "refused a gRPC connection"}
    port.logged(words.get(port.purpose, "it does not speak TLS"))


@pytest.mark.parametrize("trusts_network", [True, False])
def test_the_client_reports_a_certificate_of_another_authority(
    network: Network, certificates: CertificateFactory, trusts_network: bool
) -> None:
    """`zkp status` with a certificate of another authority exits with 1 and one line about certificates."""
    files = certificates.stranger_files("admin", Role.ADMIN, trusts_network=trusts_network)
    addresses = ",".join(network.cluster.profile.coordinators)
    status = python_module(
        "zkp.cli", "status", "--coordinators", addresses, "--identity", str(files.certificate.parent)
    )

    done = subprocess.run(status, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    if trusts_network:
        assert line.startswith(f"error: {files.certificate} ")
    else:
        assert all(f"{address}: server certificate rejected" in line for address in addresses.split(","))


# ---------------------------------------------------------------- members with false claims


def hello(name: str, peer: str) -> bytes:
    """Return the hello frame of a coordinator that claims to be `name`."""
    return framing.pack(
        raft_pb.Envelope(
            sequence=1,
            hello=raft_pb.Hello(node_id=name, peer_id=peer, version=framing.PROTOCOL_VERSION, last_log_index=10**6),
        )
    )


@pytest.mark.parametrize("name", ["worker-1", "gateway", "client", "admin"])
@pytest.mark.parametrize("target", COORDINATORS)
def test_only_coordinators_speak_raft(
    network: Network, certificates: CertificateFactory, target: str, name: str
) -> None:
    """The Raft port rejects a certificate of another role before it decodes a byte."""
    port = Port(network, target, RAFT)

    ending = connect(port.address, hello("coordinator-2", target), certificates.member(name))

    assert ending.received == b""
    port.logged("refused a Raft connection", f"/{name} is a", "only coordinators speak Raft")


def test_a_coordinator_cannot_claim_to_be_another(network: Network, certificates: CertificateFactory) -> None:
    """A hello from coordinator-1 with coordinator-2's certificate is rejected."""
    port = Port(network, DIALLED, RAFT)

    connect(port.address, hello("coordinator-1", DIALLED), certificates.member("coordinator-2"))

    port.logged("refused a Raft connection", "says it is 'coordinator-1'", '"peer": "coordinator-2 ')


def test_a_peer_that_is_dialled_does_not_dial(network: Network, certificates: CertificateFactory) -> None:
    """Of two coordinators one connects to the other; a connection in the wrong direction replaces none."""
    port = Port(network, COORDINATOR, RAFT)

    ending = connect(port.address, hello("coordinator-2", COORDINATOR), certificates.member("coordinator-2"))

    assert ending.received == b""
    port.logged("refused a Raft connection", "coordinator-2 dials, but of the two coordinator-1 does")


def test_an_unknown_coordinator_is_none(network: Network, certificates: CertificateFactory) -> None:
    """A coordinator's certificate of this network is rejected if its name is not a configured peer."""
    port = Port(network, COORDINATOR, RAFT)
    fourth = certificates.newcomer("coordinator-4", Role.COORDINATOR)

    ending = connect(port.address, hello("coordinator-4", COORDINATOR), fourth)

    assert ending.received == b""
    port.logged("refused a Raft connection", "coordinator-4 is not a configured peer")


@pytest.mark.parametrize("said", [NOISE, LONG_FRAME], ids=["noise", "2 GiB"])
@pytest.mark.parametrize("after_hello", [False, True], ids=["at once", "after a good hello"])
def test_a_coordinator_that_has_gone_mad_is_cut_off(
    network: Network, certificates: CertificateFactory, said: bytes, after_hello: bool
) -> None:
    """A frame beyond the limit is rejected at once, even from a peer."""
    port = Port(network, DIALLED, RAFT)
    greeting = hello("coordinator-2", DIALLED) if after_hello else b""

    connect(port.address, greeting + said, certificates.member("coordinator-2"))

    port.logged("refused a Raft connection", "at most 8388608 are allowed", '"peer": "coordinator-2 ')


def test_a_message_of_two_gib_is_refused_by_grpc(network: Network, certificates: CertificateFactory) -> None:
    """An announced message of 2 GiB is rejected at once, even from a client."""
    port = Port(network, COORDINATOR, GRPC)

    announced = grpc_call(b"\x00" + TWO_GIB + b"{")

    ending = connect(
        port.address, announced, certificates.member("client"), protocol=port.protocol, until=RESET_OF_STREAM_1
    )

    (answer,) = [frame for frame in parsed(ending.received) if isinstance(frame, HeadersFrame)]
    fields = {str(name): str(value) for name, value in hpack.Decoder().decode(answer.data)}
    assert fields["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert fields["grpc-message"] == "message of 2147483648 bytes: send at most 8388608 in one"


def test_noise_on_an_authenticated_grpc_connection_ends_it(
    network: Network, certificates: CertificateFactory
) -> None:
    """A client that does not send HTTP/2 is disconnected."""
    port = Port(network, COORDINATOR, GRPC)

    ending = connect(port.address, NOISE, certificates.member("client"), protocol=port.protocol)

    assert b"grpc-status" not in ending.received


@pytest.mark.parametrize(("member", "purpose"), HTTPS_PORTS)
def test_noise_on_an_authenticated_https_connection_is_a_bad_request(
    port: Port, certificates: CertificateFactory
) -> None:
    """400, and the connection is closed."""
    ending = connect(port.address, NOISE, certificates.member("admin"))

    assert ending.received.split(b"\r\n")[0].endswith(b"400 Bad Request")


@pytest.mark.parametrize(("member", "purpose"), HTTPS_PORTS)
def test_a_body_of_two_gib_is_not_waited_for(port: Port, certificates: CertificateFactory) -> None:
    """For a Content-Length of 2 GiB the gateway returns 413, other listeners 404."""
    expected = b"413" if port.purpose == "https" else b"404"

    ending = connect(port.address, LONG_HTTP, certificates.member("client"), until=b"\r\n\r\n")

    assert ending.received.startswith(b"HTTP/1.1 " + expected + b" ")


@pytest.mark.parametrize(
    ("member", "purpose"), [(COORDINATOR, "metrics"), ("worker-1", "health"), (GATEWAY, "health")]
)
def test_metrics_need_an_allowed_role(port: Port, certificates: CertificateFactory) -> None:
    """A worker's certificate is accepted for /health and gets 403 for /metrics."""
    ending = connect(port.address, HTTP_REQUEST.replace(b"/health", b"/metrics"), certificates.member("worker-2"))

    assert ending.received.startswith(b"HTTP/1.1 403 ")
    assert b"needs a certificate of the role admin or prometheus" in ending.received
    port.logged("refused /metrics")


@pytest.mark.parametrize(
    ("member", "purpose"), [(COORDINATOR, "metrics"), ("worker-1", "health"), (GATEWAY, "health")]
)
def test_whoever_belongs_gets_in(port: Port, certificates: CertificateFactory) -> None:
    """An admin's certificate is accepted by every kind of daemon, which serve metrics."""
    request = HTTP_REQUEST.replace(b"/health", b"/metrics")

    ending = connect(port.address, request, certificates.member("admin"))

    assert ending.received.startswith(b"HTTP/1.1 200 ")
    assert b"\n# TYPE zkp_" in ending.received
