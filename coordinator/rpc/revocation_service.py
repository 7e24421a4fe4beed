"""gRPC handler of the revocation feed, for workers and gateways, which enforce revocations on their own ports."""

# ruff: noqa: ARG002, N802 - gRPC gives names and arguments

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from coordinator.rpc import convert
from coordinator.services.revocations import Revocations
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RevocationService(pb_grpc.RevocationServiceServicer):
    """Follow what is revoked."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    async def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, context: Context
    ) -> AsyncIterator[pb.Revocations]:
        """Stream the revocations: first those that exist, then each new one."""
        async with aclosing(self._revocations.follow(request.after_revision)) as batches:
            async for batch in batches:
                yield pb.Revocations(revocations=[convert.revocation_to_pb(one) for one in batch])
