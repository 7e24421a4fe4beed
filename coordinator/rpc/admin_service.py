"""gRPC handlers for admins: what the cluster looks like from here, and the levers that an operator has."""

# ruff: noqa: ARG002, N802 - gRPC gives names and arguments

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from coordinator.errors import InvalidRequest, NotFound, NotTransferred, TimedOut
from coordinator.leader.leases import Leases
from coordinator.monitoring.health import Health
from coordinator.raft import OutcomeUnknown, TransferRefused
from coordinator.replication.replicator import Replicator
from coordinator.rpc import convert
from coordinator.rpc.gate import caller_serial
from coordinator.services.cluster import Cluster
from coordinator.services.revocations import Revocations
from coordinator.state.commands import Release
from coordinator.state.model import Worker
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_TRANSFER_TIMEOUT_S = 4.0  # clients wait five for one answer


class AdminService(pb_grpc.AdminServiceServicer):
    """clock: monotonic seconds, the one that `leases` gets; now_ms: wall clock."""

    def __init__(
        self,
        replicator: Replicator,
        cluster: Cluster,
        leases: Leases,
        health: Health,
        revocations: Revocations,
        *,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        version: str,
    ) -> None:
        self._replicator = replicator
        self._cluster = cluster
        self._leases = leases
        self._health = health
        self._revocations = revocations
        self._clock = clock
        self._now_ms = now_ms
        self._version = version

    async def ClusterStatus(self, request: pb.ClusterStatusRequest, context: Context) -> pb.ClusterStatusResponse:
        """Any node answers; only the leader knows workers and database."""
        status = self._replicator.status()
        state = self._replicator.state
        roles = self._cluster.roles()
        database = self._health.database()
        known = {"ok": "ok", "unknown": "unknown"}
        return pb.ClusterStatusResponse(
            answered_by=self._replicator.node_id,
            leader=status.leader_id or "",
            term=status.term,
            commit_index=status.commit_index,
            last_applied=status.last_applied,
            nodes=[
                pb.NodeStatus(
                    id=member.id,
                    raft_address=member.raft_address,
                    grpc_address=member.grpc_address,
                    role=roles[member.id],
                )
                for member in self._cluster.members
            ],
            workers=self._workers(),
            tasks={str(name): count for name, count in state.counts.items()},
            database=known.get(database.status, "degraded"),
            projection_backlog=database.backlog,
            database_reason=database.reason,
            version=self._version,
        )

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: Context
    ) -> pb.TransferLeadershipResponse:
        """Answers once another node leads."""
        self._replicator.require_leader()
        if request.to and request.to not in {member.id for member in self._cluster.members}:
            raise InvalidRequest("to", f"{request.to[:64]!r} is not a member of this cluster")
        already_transferred = not request.to and 0 < request.term < self._replicator.term
        if request.to == self._replicator.node_id or already_transferred:
            return pb.TransferLeadershipResponse(leader=self._replicator.node_id)
        try:
            async with asyncio.timeout(_TRANSFER_TIMEOUT_S):
                leader = await self._replicator.transfer_leadership(request.to or None)
        except TransferRefused as error:
            raise NotTransferred(str(error)) from None
        except (OutcomeUnknown, TimeoutError):
            raise TimedOut(
                f"no other node leads after {_TRANSFER_TIMEOUT_S:g} s: look at the cluster's status"
            ) from None
        return pb.TransferLeadershipResponse(leader=leader)

    async def ReleaseWorker(self, request: pb.ReleaseWorkerRequest, context: Context) -> pb.ReleaseWorkerResponse:
        """Ends a quarantine; the worker then registers by itself."""
        self._replicator.require_leader()
        outcome = await self._replicator.submit(Release(request.worker_id))
        if outcome.refusal is not None:
            raise NotFound(outcome.refusal.message)
        return pb.ReleaseWorkerResponse()

    async def RevokeCertificates(
        self, request: pb.RevokeCertificatesRequest, context: Context
    ) -> pb.RevokeCertificatesResponse:
        """Answers once it is agreed on; every node then acts on it by itself."""
        certificates = [convert.certificate_from_pb(message) for message in request.certificates]
        revoked, found = await self._revocations.revoke(certificates, caller_serial())
        return pb.RevokeCertificatesResponse(
            revoked=revoked, revocations=[convert.revocation_to_pb(one) for one in found]
        )

    async def ListRevocations(
        self, request: pb.ListRevocationsRequest, context: Context
    ) -> pb.ListRevocationsResponse:
        """One page."""
        found = await self._revocations.page(request.after_revision, request.page_size)
        return pb.ListRevocationsResponse(revocations=[convert.revocation_to_pb(one) for one in found])

    def _workers(self) -> list[pb.WorkerStatus]:
        if not self._replicator.is_leader:
            return []
        workers = self._replicator.state.workers
        return [self._worker(workers[worker_id]) for worker_id in sorted(workers)]

    def _worker(self, worker: Worker) -> pb.WorkerStatus:
        heard = self._leases.last_heard(worker.id)
        ago_ms = None if heard is None else int((self._clock() - heard) * 1000)
        return pb.WorkerStatus(
            id=worker.id,
            state=str(worker.state),
            capacity=worker.capacity,
            busy=len(self._replicator.state.leases.get(worker.id, ())),
            circuits=sorted(worker.circuits),
            last_heartbeat=None if ago_ms is None else convert.timestamp(self._now_ms() - ago_ms),
            version=worker.version,
        )
