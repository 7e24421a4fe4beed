"""Everybody who must not get in, at every port of a running network: refused in words, and without effect.

After each attempt the same node leads in the same term,
every process is the one that it was, and a proof still goes through.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from coordinator.raft.transport import framing
from pki.x509.identity import Role
from tests.integration.cluster.intruder import (
    HTTP_REQUEST,
    LONG_FRAME,
    LONG_HTTP,
    NOISE,
    TWO_GIB,
    Wardrobe,
    connect,
    grpc_call,
)
from tests.integration.cluster.network import Network, eventually
from zkp.localcluster.layout import COORDINATORS, GATEWAY
from zkp.localcluster.process import python_module
from zkp.protocol.v1 import raft_pb2 as raft_pb

RAFT, GRPC = "raft", "grpc"
COORDINATOR = "coordinator-1"
DIALLED = "coordinator-3"  # both of the others dial it
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
EVERY_PORT = pytest.mark.parametrize(("member", "purpose"), PORTS)


@pytest.fixture(scope="module")
def network(calm_network: Network) -> Network:
    """The network that all of this happens to."""
    return calm_network


@pytest.fixture(scope="module")
def wardrobe(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Wardrobe:
    """What an intruder may show."""
    return Wardrobe(network.layout, tmp_path_factory.mktemp("wardrobe"))


@dataclass
class Door:
    """One port of a daemon, and what the daemon logs from now on."""

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
        """What TLS has to negotiate here before anything else is heard."""
        return "h2" if self.purpose == GRPC else None

    def logged(self, *words: str) -> str:
        """The line of the log that has all of these words."""

        def found() -> str | None:
            lines = self.network.log(self.member, self._logged).splitlines()
            return next((line for line in lines if all(word in line for word in words)), None)

        return eventually(f"{' … '.join(words)} in the log of {self.member}", found, 20.0)


@pytest.fixture
def door(network: Network, member: str, purpose: str) -> Door:
    """The port that a test is about."""
    return Door(network, member, purpose)


@pytest.fixture(autouse=True)
def no_effect(network: Network) -> Iterator[None]:
    """See `Network.unmoved`."""
    with network.unmoved():
        yield


# ---------------------------------------------------------------- who does not get as far as a request


ALERTS = {
    "nobody": ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "CERTIFICATE_REQUIRED"),
    "stranger": ("TLSV1_ALERT_UNKNOWN_CA", "UNKNOWN_CA"),
    "expired": ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "CERTIFICATE_EXPIRED"),
}
LOGGED = {
    "nobody": {RAFT: "it showed no client certificate", GRPC: "the peer showed no certificate"},
    "stranger": {RAFT: "its certificate does not verify", GRPC: "the peer's certificate does not verify"},
    "expired": {RAFT: "certificate has expired", GRPC: "certificate has expired"},
}
LOGGED_BY_HTTPS = {
    "nobody": "it showed no client certificate",
    "stranger": "its certificate does not verify",
    "expired": "certificate has expired",
}


# Clients with an API key show no certificate at the gateway's door: see the test of just that.
@pytest.mark.parametrize(
    ("member", "purpose", "who"),
    [(*port, who) for port in PORTS for who in LOGGED if (port[1], who) != ("https", "nobody")],
)
def test_a_caller_without_a_good_certificate_is_refused(door: Door, wardrobe: Wardrobe, who: str) -> None:
    """No certificate, one of another authority, one that has expired: no byte of an answer, and a line in the log.

    The alert that tells the caller why comes from the HTTPS ports; gRPC's and the Raft port's TLS just close.
    """
    context = {"nobody": wardrobe.nobody, "stranger": wardrobe.stranger, "expired": wardrobe.expired}[who]()

    ending = connect(door.address, HTTP_REQUEST, context, protocol=door.protocol)

    assert ending.received == b""
    if door.purpose not in (RAFT, GRPC):
        assert ending.error in ALERTS[who]
    door.logged(LOGGED[who].get(door.purpose, LOGGED_BY_HTTPS[who]))


def test_the_task_pages_want_to_know_who_calls(network: Network, wardrobe: Wardrobe) -> None:
    """Without certificate and without API key the gateway's pages answer 401 and say what would be right."""
    door = Door(network, GATEWAY, "https")
    request = HTTP_REQUEST.replace(b"/health", b"/api/v1/tasks")

    ending = connect(door.address, request, wardrobe.nobody())

    assert ending.received.startswith(b"HTTP/1.1 401 ")
    assert b"certificate" in ending.received
    door.logged("GET /api/v1/tasks answered 401")


@EVERY_PORT
@pytest.mark.parametrize("said", ["noise", "a length of 2 GiB", "plain HTTP"])
def test_what_is_no_tls_is_refused(door: Door, said: str) -> None:
    """Random bytes, a frame of 2 GiB, a browser that forgot the s: closed, and a line in the log."""
    data = {"noise": NOISE, "a length of 2 GiB": LONG_FRAME, "plain HTTP": HTTP_REQUEST}[said]

    ending = connect(door.address, data, None)

    if said == "plain HTTP" and door.purpose not in (RAFT, GRPC):
        assert ending.received.startswith(b"HTTP/1.1 400 ")
        assert ending.received.endswith(b'"detail": "the request is plain HTTP; use https://"}')
    else:
        assert ending.received == b""
    words = {RAFT: "refused a Raft connection", GRPC: "refused a gRPC connection"}
    door.logged(words.get(door.purpose, "it does not speak TLS"))


@pytest.mark.parametrize("believes_us", [True, False])
def test_a_stranger_who_uses_our_own_client_is_told_why(
    network: Network, wardrobe: Wardrobe, believes_us: bool
) -> None:
    """`zkp status` with a certificate of another authority: exit code 1, and one line about certificates."""
    files = wardrobe.stranger_files("admin", Role.ADMIN, believes_us=believes_us)
    addresses = ",".join(network.cluster.profile.coordinators)
    status = python_module(
        "zkp.cli", "status", "--coordinators", addresses, "--identity", str(files.certificate.parent)
    )

    done = subprocess.run(status, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    if believes_us:
        assert line.startswith(f"error: {files.certificate} ")
    else:
        assert all(f"{address}: its certificate is refused" in line for address in addresses.split(","))


# ---------------------------------------------------------------- members who are not what they say


def hello(name: str, peer: str) -> bytes:
    """The first frame of a coordinator that says that it is `name`."""
    return framing.pack(
        raft_pb.Envelope(
            sequence=1,
            hello=raft_pb.Hello(node_id=name, peer_id=peer, version=framing.PROTOCOL_VERSION, last_log_index=10**6),
        )
    )


@pytest.mark.parametrize("name", ["worker-1", "gateway", "client", "admin"])
@pytest.mark.parametrize("target", COORDINATORS)
def test_only_coordinators_speak_raft(network: Network, wardrobe: Wardrobe, target: str, name: str) -> None:
    """A good certificate of another role is refused at the Raft port before one byte is decoded."""
    door = Door(network, target, RAFT)

    ending = connect(door.address, hello("coordinator-2", target), wardrobe.member(name))

    assert ending.received == b""
    door.logged("refused a Raft connection", f"/{name} is a", "only coordinators speak Raft")


def test_a_coordinator_cannot_claim_to_be_another(network: Network, wardrobe: Wardrobe) -> None:
    """coordinator-2's certificate, and a hello that says coordinator-1."""
    door = Door(network, DIALLED, RAFT)

    connect(door.address, hello("coordinator-1", DIALLED), wardrobe.member("coordinator-2"))

    door.logged("refused a Raft connection", "says it is 'coordinator-1'", '"peer": "coordinator-2 ')


def test_a_peer_that_is_dialled_does_not_dial(network: Network, wardrobe: Wardrobe) -> None:
    """Of two coordinators one dials the other: who comes the wrong way displaces no link."""
    door = Door(network, COORDINATOR, RAFT)

    ending = connect(door.address, hello("coordinator-2", COORDINATOR), wardrobe.member("coordinator-2"))

    assert ending.received == b""
    door.logged("refused a Raft connection", "coordinator-2 dials, but of the two coordinator-1 does")


def test_an_unknown_coordinator_is_none(network: Network, wardrobe: Wardrobe) -> None:
    """A coordinator's certificate of this network whose name is in nobody's list of peers."""
    door = Door(network, COORDINATOR, RAFT)
    fourth = wardrobe.newcomer("coordinator-4", Role.COORDINATOR)

    ending = connect(door.address, hello("coordinator-4", COORDINATOR), fourth)

    assert ending.received == b""
    door.logged("refused a Raft connection", "coordinator-4 is not a configured peer")


@pytest.mark.parametrize("said", [NOISE, LONG_FRAME], ids=["noise", "2 GiB"])
@pytest.mark.parametrize("after_hello", [False, True], ids=["at once", "after a good hello"])
def test_a_coordinator_that_has_gone_mad_is_cut_off(
    network: Network, wardrobe: Wardrobe, said: bytes, after_hello: bool
) -> None:
    """With a peer's own certificate: a frame beyond the limit is not waited for."""
    door = Door(network, DIALLED, RAFT)
    greeting = hello("coordinator-2", DIALLED) if after_hello else b""

    connect(door.address, greeting + said, wardrobe.member("coordinator-2"))

    door.logged("refused a Raft connection", "at most 8388608 are allowed", '"peer": "coordinator-2 ')


def test_a_message_of_two_gib_is_refused_by_grpc(network: Network, wardrobe: Wardrobe) -> None:
    """A client with a good certificate announces it; the server answers at once and waits for none of it."""
    door = Door(network, COORDINATOR, GRPC)

    announced = grpc_call(b"\x00" + TWO_GIB + b"{")

    ending = connect(
        door.address, announced, wardrobe.member("client"), protocol=door.protocol, until=b"larger than max"
    )

    assert b"Received message larger than max (2147483648 vs." in ending.received


def test_noise_on_an_authenticated_grpc_connection_ends_it(network: Network, wardrobe: Wardrobe) -> None:
    """A client with a good certificate that does not speak HTTP/2 is disconnected."""
    door = Door(network, COORDINATOR, GRPC)

    ending = connect(door.address, NOISE, wardrobe.member("client"), protocol=door.protocol)

    assert b"grpc-status" not in ending.received


@pytest.mark.parametrize(("member", "purpose"), HTTPS_PORTS)
def test_noise_on_an_authenticated_https_connection_is_a_bad_request(door: Door, wardrobe: Wardrobe) -> None:
    """400, and the connection is closed."""
    ending = connect(door.address, NOISE, wardrobe.member("admin"))

    assert ending.received.split(b"\r\n")[0].endswith(b"400 Bad Request")


@pytest.mark.parametrize(("member", "purpose"), HTTPS_PORTS)
def test_a_body_of_two_gib_is_not_waited_for(door: Door, wardrobe: Wardrobe) -> None:
    """Announced by its length: the gateway answers 413; where nothing is taken it is 404."""
    expected = b"413" if door.purpose == "https" else b"404"

    ending = connect(door.address, LONG_HTTP, wardrobe.member("client"), until=b"\r\n\r\n")

    assert ending.received.startswith(b"HTTP/1.1 " + expected + b" ")


@pytest.mark.parametrize(
    ("member", "purpose"), [(COORDINATOR, "metrics"), ("worker-1", "health"), (GATEWAY, "health")]
)
def test_metrics_are_not_for_everybody(door: Door, wardrobe: Wardrobe) -> None:
    """A worker's certificate is good for /health, and gets 403 for /metrics."""
    ending = connect(door.address, HTTP_REQUEST.replace(b"/health", b"/metrics"), wardrobe.member("worker-2"))

    assert ending.received.startswith(b"HTTP/1.1 403 ")
    assert b"needs a certificate of the role admin or prometheus" in ending.received
    door.logged("refused /metrics")


@pytest.mark.parametrize(
    ("member", "purpose"), [(COORDINATOR, "metrics"), ("worker-1", "health"), (GATEWAY, "health")]
)
def test_whoever_belongs_gets_in(door: Door, wardrobe: Wardrobe) -> None:
    """With an admin's certificate the same requests are answered: there are metrics, of every kind of daemon."""
    request = HTTP_REQUEST.replace(b"/health", b"/metrics")

    ending = connect(door.address, request, wardrobe.member("admin"))

    assert ending.received.startswith(b"HTTP/1.1 200 ")
    assert b"\n# TYPE zkp_" in ending.received
