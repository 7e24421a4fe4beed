"""Who may call what."""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from coordinator.errors import Forbidden, Unauthenticated
from coordinator.rpc import authorization as module
from coordinator.rpc.authorization import ROLES, Authorization
from pki.ca.authority import Authority
from pki.tls.material import PeerCertificate, grpc_peer_certificate
from pki.x509.identity import Role
from tests.unit.coordinator.fakes import Clock
from zkp.daemon.bounded_log import BoundedLog
from zkp.protocol.v1 import coordinator_pb2

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SERVICE_ROLES = {
    "zkp.v1.TaskService": {Role.GATEWAY, Role.CLIENT, Role.ADMIN},
    "zkp.v1.WorkerService": {Role.WORKER},
    "zkp.v1.AdminService": {Role.ADMIN},
    "zkp.v1.RevocationService": {Role.WORKER, Role.GATEWAY},
    "grpc.health.v1.Health": set(Role),
    "grpc.reflection.v1alpha.ServerReflection": set(Role),
}


class Door:
    """An authorization with a clock that moves, and what it counted; `revoked` as the node's material knows it."""

    def __init__(self) -> None:
        self.now = NOW
        self.revoked: set[int] = set()
        self.counted: list[str] = []
        self.clock = Clock()
        self.authorization = Authorization(
            self,
            now=lambda: self.now,
            log=BoundedLog(logging.getLogger("zkp.coordinator"), self.clock),
            count=self.counted.append,
        )

    def check_grpc_peer(self, auth_context: Mapping[str, Iterable[bytes]], now: datetime) -> PeerCertificate:
        certificate = grpc_peer_certificate(auth_context, "zkp.local", now)
        certificate.check_revocation(self.revoked)
        return certificate


def context_of(authority: Authority, name: str, role: Role) -> dict[str, list[bytes]]:
    """What gRPC says of a connection with this certificate."""
    hosts = ["127.0.0.1"] if role in (Role.COORDINATOR, Role.POSTGRES, Role.GATEWAY, Role.WORKER) else []
    issued = authority.issue(name, role, hosts, now=NOW)
    return {"x509_pem_cert": [issued.certificate_pem], "ssl_tls_version": [b"TLSv1.3"]}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("zkp.local", now=NOW)


@pytest.fixture
def door() -> Door:
    return Door()


def test_every_method_of_every_service_is_in_the_table_with_the_roles_of_its_service() -> None:
    """A new method is refused for every role until the table lists it; this test demands the entry."""
    expected = {
        f"/{service.full_name}/{method.name}": SERVICE_ROLES[service.full_name]
        for file in (coordinator_pb2, health_pb2, reflection_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {method: set(roles) for method, roles in ROLES.items()} == expected


def test_the_last_callers_are_remembered_by_serial_number(
    door: Door, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded number of them, the oldest forgotten first; who was refused is not among them."""
    monkeypatch.setattr(module, "_MAX_REMEMBERED_CALLERS", 2)
    method = "/zkp.v1.WorkerService/SendHeartbeat"
    contexts = [context_of(authority, f"worker-{number}", Role.WORKER) for number in (1, 2, 3)]
    serials = [door.authorization.admit(method, context, "ipv4:1.2.3.4:5")[0].serial for context in contexts]
    assert [identity and identity.name for identity in map(door.authorization.caller_with, serials)] == [
        None,
        "worker-2",
        "worker-3",
    ]
    with pytest.raises(Forbidden):
        door.authorization.admit("/zkp.v1.AdminService/ClusterStatus", contexts[0], "ipv4:1.2.3.4:5")
    assert door.authorization.caller_with(serials[0]) is None


def test_a_caller_with_the_right_role_is_named(door: Door, authority: Authority) -> None:
    """And so is how long its certificate is good."""
    context = context_of(authority, "worker-1", Role.WORKER)
    certificate, valid_s = door.authorization.admit("/zkp.v1.WorkerService/SendHeartbeat", context, "ipv4:1.2.3.4:5")
    assert certificate.identity.uri == "spiffe://zkp.local/worker/worker-1"
    assert valid_s > 0
    assert door.counted == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("method", sorted(ROLES))
def test_the_role_matrix(door: Door, authority: Authority, method: str, role: Role) -> None:
    """Every role may call exactly the methods that the table lists for it."""
    context = context_of(authority, "somebody", role)
    if role in SERVICE_ROLES[method.split("/")[1]]:
        assert door.authorization.admit(method, context, "peer")[0].identity.role is role
    else:
        with pytest.raises(Forbidden, match=role):
            door.authorization.admit(method, context, "peer")
        assert door.counted == ["forbidden"]


def test_what_is_not_in_the_table_is_refused(door: Door, authority: Authority) -> None:
    """Deny by default."""
    with pytest.raises(Forbidden, match="none"):
        door.authorization.admit("/zkp.v1.AdminService/New", context_of(authority, "root", Role.ADMIN), "peer")


def test_a_certificate_that_expires_on_an_open_connection_stops_working(door: Door, authority: Authority) -> None:
    """It is looked at again at each call."""
    context = context_of(authority, "worker-1", Role.WORKER)
    door.authorization.admit("/zkp.v1.WorkerService/SendHeartbeat", context, "peer")
    door.now += timedelta(days=3650)
    with pytest.raises(Unauthenticated, match="expired"):
        door.authorization.admit("/zkp.v1.WorkerService/SendHeartbeat", context, "peer")
    assert door.counted == ["expired"]


def test_a_certificate_that_is_revoked_on_an_open_connection_stops_working(door: Door, authority: Authority) -> None:
    """From the very next call on."""
    context = context_of(authority, "worker-1", Role.WORKER)
    certificate, _ = door.authorization.admit("/zkp.v1.WorkerService/SendHeartbeat", context, "peer")
    door.revoked.add(certificate.serial)
    with pytest.raises(Unauthenticated, match="revoked"):
        door.authorization.admit("/zkp.v1.WorkerService/SendHeartbeat", context, "peer")
    assert door.counted == ["revoked"]


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"x509_pem_cert": [b"nonsense"], "ssl_tls_version": [b"TLSv1.3"]},
        {"ssl_tls_version": [b"TLSv1.3"]},
    ],
)
def test_a_caller_without_a_usable_certificate_is_refused(door: Door, context: dict[str, list[bytes]]) -> None:
    """Whatever the transport let through."""
    with pytest.raises(Unauthenticated):
        door.authorization.admit("/grpc.health.v1.Health/Check", context, "peer")


def test_another_trust_domain_is_refused(door: Door) -> None:
    """Even if its root were trusted by mistake."""
    foreign = Authority.create("other.example", now=NOW)
    with pytest.raises(Unauthenticated, match=r"other\.example"):
        door.authorization.admit("/grpc.health.v1.Health/Check", context_of(foreign, "somebody", Role.ADMIN), "peer")


def test_strangers_cannot_fill_the_log(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines in ten seconds, then a number; every refusal is counted."""
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            with pytest.raises(Unauthenticated):
                door.authorization.admit("/grpc.health.v1.Health/Check", {}, "peer")
        assert len(caplog.records) == 20
        door.clock.now += 10
        with pytest.raises(Unauthenticated):
            door.authorization.admit("/grpc.health.v1.Health/Check", {}, "peer")
    assert "80 more refusals" in caplog.text
    assert len(door.counted) == 101
