"""Authorization: a table of methods and roles, and the check of every call against it.

Methods that are not in the table are refused. The certificate is checked again at each call, so that expiry and
revocation affect open connections.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from coordinator.errors import Forbidden, Unauthenticated
from pki.tls.material import IdentityError, PeerCertificate
from pki.x509.identity import Identity, Role
from zkp.daemon.bounded_log import BoundedLog

_WORKERS = frozenset({Role.WORKER})
_CLIENTS = frozenset({Role.GATEWAY, Role.CLIENT, Role.ADMIN})
_ADMINS = frozenset({Role.ADMIN})
_SERVERS = frozenset({Role.WORKER, Role.GATEWAY})
_EVERY_ROLE = frozenset(Role)

ROLES: Mapping[str, frozenset[Role]] = {
    "/zkp.v1.TaskService/SubmitTask": _CLIENTS,
    "/zkp.v1.TaskService/SubmitTasks": _CLIENTS,
    "/zkp.v1.TaskService/StreamSubmissions": _CLIENTS,
    "/zkp.v1.TaskService/StreamBatches": _CLIENTS,
    "/zkp.v1.TaskService/GetTask": _CLIENTS,
    "/zkp.v1.TaskService/WatchTask": _CLIENTS,
    "/zkp.v1.TaskService/ListTasks": _CLIENTS,
    "/zkp.v1.TaskService/CancelTask": _CLIENTS,
    "/zkp.v1.WorkerService/RegisterWorker": _WORKERS,
    "/zkp.v1.WorkerService/SendHeartbeat": _WORKERS,
    "/zkp.v1.WorkerService/ReceiveTasks": _WORKERS,
    "/zkp.v1.WorkerService/StartTask": _WORKERS,
    "/zkp.v1.WorkerService/ReportCompletion": _WORKERS,
    "/zkp.v1.WorkerService/ReportFailure": _WORKERS,
    "/zkp.v1.AdminService/ClusterStatus": _ADMINS,
    "/zkp.v1.AdminService/TransferLeadership": _ADMINS,
    "/zkp.v1.AdminService/ReleaseWorker": _ADMINS,
    "/zkp.v1.AdminService/RevokeCertificates": _ADMINS,
    "/zkp.v1.AdminService/ListRevocations": _ADMINS,
    "/zkp.v1.RevocationService/WatchRevocations": _SERVERS,
    "/grpc.health.v1.Health/Check": _EVERY_ROLE,
    "/grpc.health.v1.Health/Watch": _EVERY_ROLE,
    "/grpc.health.v1.Health/List": _EVERY_ROLE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERY_ROLE,
}
"""gRPC method → the roles whose certificates may call it."""

_MAX_REMEMBERED_CALLERS = 4096


class PeerCheck(Protocol):
    """Whose certificates are good: `pki.tls.TlsMaterial`."""

    def check_grpc_peer(self, auth_context: Mapping[str, Iterable[bytes]], now: datetime) -> PeerCertificate:
        """The certificate behind a call; raises IdentityError unless it is good now."""
        ...


class Authorization:
    """Turns a connection's verified certificate into a caller who may call this method, or a refusal."""

    def __init__(
        self,
        peers: PeerCheck,
        *,
        now: Callable[[], datetime],
        log: BoundedLog,
        count: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            peers: Checks certificates.
            now: Returns the time, with time zone.
            log: For refusals.
            count: Called with the reason of each refusal: "forbidden" or what is wrong with the certificate.
        """
        self._peers = peers
        self._now = now
        self._log = log
        self._count = count
        self._callers: dict[int, Identity] = {}

    def admit(
        self, method: str, auth_context: Mapping[str, Iterable[bytes]], peer: str
    ) -> tuple[PeerCertificate, float]:
        """The caller's certificate, and for how many seconds it is still valid.

        method: "/package.Service/Method"; peer: the remote address, for the log. Raises Unauthenticated, Forbidden.
        """
        now = self._now()
        try:
            certificate = self._peers.check_grpc_peer(auth_context, now)
        except IdentityError as error:
            self._reject(str(error.refusal), method, peer, str(error))
            raise Unauthenticated(str(error)) from None
        self._check_role(method, certificate, peer)
        if certificate.serial not in self._callers:
            self._remember(certificate)
        return certificate, (certificate.not_after - now).total_seconds()

    def caller_with(self, serial: int) -> Identity | None:
        """Who has made calls with the certificate of this serial number; of the last 4,096 certificates."""
        return self._callers.get(serial)

    def _remember(self, certificate: PeerCertificate) -> None:
        while len(self._callers) >= _MAX_REMEMBERED_CALLERS:
            del self._callers[next(iter(self._callers))]
        self._callers[certificate.serial] = certificate.identity

    def _check_role(self, method: str, certificate: PeerCertificate, peer: str) -> None:
        allowed = ROLES.get(method, frozenset())
        identity = certificate.identity
        if identity.role in allowed:
            return
        roles = " or ".join(sorted(allowed)) or "none"
        message = f"this is for role {roles}, and the certificate is {identity.role}/{identity.name}"
        self._reject("forbidden", method, peer, message)
        raise Forbidden(message)

    def _reject(self, reason: str, method: str, peer: str, message: str) -> None:
        self._count(reason)
        self._log.warning(f"call of {method} refused: {message}", peer)
