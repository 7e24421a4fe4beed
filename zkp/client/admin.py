"""Administrative API: cluster status, leadership transfer, worker release, certificate revocation."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import grpc

from zkp.client.errors import NoLeader
from zkp.client.failures import CallFailed, DialFailed, final_error
from zkp.client.leader import LeaderConnection
from zkp.client.model import timestamp
from zkp.protocol.limits import MAX_CERTIFICATES
from zkp.protocol.v1 import coordinator_pb2 as pb

DEFAULT_TIMEOUT_S = 10.0
_STATUS_TIMEOUT_S = 3.0
UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Node:
    """One coordinator. `role` is "leader", "follower", "candidate", "unreachable" or "unknown".

    Fields that only the node itself reports are None unless it answered; `problem` is the reason.
    """

    id: str
    role: str
    raft_address: str
    grpc_address: str
    problem: str = ""
    term: int | None = None
    commit_index: int | None = None
    last_applied: int | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as reported by the leader; `state` is "online", "offline" or "quarantined"."""

    id: str
    state: str
    capacity: int
    busy: int
    circuits: tuple[str, ...]
    last_heartbeat: datetime | None
    version: str


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Status of the cluster as reported by the leader, or else by the node with the newest term.

    `leader` is empty while there is none; only the leader reports workers, tasks and the database. `database` is
    "ok", "degraded" or "unknown", and `database_reason` says why it is degraded; `projection_backlog` counts the
    revisions that are not yet projected.
    """

    leader: str
    term: int
    nodes: tuple[Node, ...]
    workers: tuple[Worker, ...]
    tasks: dict[str, int]
    database: str
    projection_backlog: int
    database_reason: str = ""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked certificate. `serial`: hexadecimal; `subject`: ROLE/NAME, or empty."""

    serial: str
    subject: str
    reason: str
    revoked_at: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """Result of a revocation request.

    `new`: number of certificates that were not revoked before; `revocations`: one per requested certificate, with its
    holder if the leader knows it; empty if the leader runs an older release.
    """

    new: int
    revocations: tuple[Revocation, ...]


class AdminClient:
    """The admin service over a `LeaderConnection`, which the caller owns. Requires an admin's certificate."""

    def __init__(self, connection: LeaderConnection, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout = timeout

    async def cluster_status(self) -> ClusterStatus:
        """Query every address, so that nodes that are down are reported too.

        Raises:
            NoLeader: no coordinator answered.
            Refused: the certificate is not an admin's.
        """
        addresses = self._connection.addresses
        answers = dict(
            zip(addresses, await asyncio.gather(*(self._ask(address) for address in addresses)), strict=True)
        )
        problems = {address: answer for address, answer in answers.items() if isinstance(answer, str)}
        reports = {address: answer for address, answer in answers.items() if not isinstance(answer, str)}
        if not reports:
            tried = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
            raise NoLeader(
                f"no coordinator answered ({tried}); start the coordinators or check the addresses", problems
            )
        return _merge(reports, problems)

    async def transfer_leadership(self, to: str = "") -> str:
        """Transfer leadership to node `to`, by default the most up-to-date follower; return the new leader's id.

        Retries transfer leadership once: without `to`, the request names the current term.
        """
        term = 0 if to else (await self.cluster_status()).term
        request = pb.TransferLeadershipRequest(to=to, term=term)
        response = await self._connection.call(
            lambda stubs: stubs.admin.TransferLeadership, request, timeout=self._timeout
        )
        return response.leader

    async def release_worker(self, worker_id: str) -> None:
        """End a worker's quarantine; raises `NotFound`."""
        request = pb.ReleaseWorkerRequest(worker_id=worker_id)
        await self._connection.call(lambda stubs: stubs.admin.ReleaseWorker, request, timeout=self._timeout)

    async def revoke(self, serials: Sequence[tuple[str, str]]) -> RevocationResult:
        """Revoke certificates on every node.

        Args:
            serials: (serial, reason) of each certificate; serial in lower-case hexadecimal without leading zeros.

        Raises:
            InvalidSubmission: a serial or reason is invalid; `field` names it.
        """
        new = 0
        found: list[Revocation] = []
        for start in range(0, len(serials), MAX_CERTIFICATES):
            request = pb.RevokeCertificatesRequest(
                certificates=[
                    pb.Certificate(serial=serial, reason=reason)
                    for serial, reason in serials[start : start + MAX_CERTIFICATES]
                ]
            )
            response = await self._connection.call(
                lambda stubs: stubs.admin.RevokeCertificates, request, timeout=self._timeout
            )
            new += response.revoked
            found += map(_revocation, response.revocations)
        return RevocationResult(new, tuple(found))

    async def revocations(self) -> list[Revocation]:
        """Return the revocations whose certificates have not expired, in the order of revocation."""
        found: list[Revocation] = []
        request = pb.ListRevocationsRequest(page_size=MAX_CERTIFICATES)
        while True:
            page = await self._connection.call(
                lambda stubs: stubs.admin.ListRevocations, request, timeout=self._timeout
            )
            found += map(_revocation, page.revocations)
            if len(page.revocations) < MAX_CERTIFICATES:
                return found
            request.after_revision = page.revocations[-1].revision

    async def _ask(self, address: str) -> pb.ClusterStatusResponse | str:
        try:
            channel = await self._connection.open(address, _STATUS_TIMEOUT_S)
        except DialFailed as failure:
            return failure.reason
        try:
            return await channel.call(
                lambda stubs: stubs.admin.ClusterStatus, pb.ClusterStatusRequest(), timeout=_STATUS_TIMEOUT_S
            )
        except CallFailed as failure:
            if failure.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
                raise final_error(failure) from None
            if failure.transient:
                self._connection.retire(channel)
            return failure.details or failure.code.name


def _merge(reports: dict[str, pb.ClusterStatusResponse], problems: dict[str, str]) -> ClusterStatus:
    """Merge reports: each node's own report for itself, and the best-informed node's for everything else."""
    best = max(reports.values(), key=lambda report: (report.term, report.answered_by == report.leader))
    own = {report.answered_by: report for report in reports.values()}
    nodes = [_node(status, own.get(status.id), problems) for status in best.nodes]
    named = {node.grpc_address for node in nodes}
    nodes += [
        Node(id="", role=UNREACHABLE, raft_address="", grpc_address=address, problem=problem)
        for address, problem in problems.items()
        if address not in named
    ]
    return ClusterStatus(
        leader=best.leader,
        term=best.term,
        nodes=tuple(nodes),
        workers=tuple(_worker(worker) for worker in best.workers),
        tasks=dict(best.tasks),
        database=best.database,
        projection_backlog=best.projection_backlog,
        database_reason=best.database_reason,
    )


def _node(status: pb.NodeStatus, own: pb.ClusterStatusResponse | None, problems: dict[str, str]) -> Node:
    if own is None:
        return Node(
            id=status.id,
            role=UNREACHABLE if status.grpc_address in problems else status.role,
            raft_address=status.raft_address,
            grpc_address=status.grpc_address,
            problem=problems.get(status.grpc_address, ""),
        )
    own_view = next((node.role for node in own.nodes if node.id == status.id), status.role)
    return Node(
        id=status.id,
        role=own_view,
        raft_address=status.raft_address,
        grpc_address=status.grpc_address,
        term=own.term,
        commit_index=own.commit_index,
        last_applied=own.last_applied,
        version=own.version,
    )


def _worker(status: pb.WorkerStatus) -> Worker:
    return Worker(
        id=status.id,
        state=status.state,
        capacity=status.capacity,
        busy=status.busy,
        circuits=tuple(status.circuits),
        last_heartbeat=timestamp(status, "last_heartbeat"),
        version=status.version,
    )


def _revocation(message: pb.Revocation) -> Revocation:
    return Revocation(
        serial=message.serial,
        subject=message.subject,
        reason=message.reason,
        revoked_at=timestamp(message, "revoked_at"),
        not_after=timestamp(message, "not_after"),
    )
