"""Following what the cluster revokes: whoever serves others has to know whom to refuse."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from zkp.client.backoff import Backoff
from zkp.client.errors import ClientError, NoLeader
from zkp.client.failures import CallFailed, stream_ended
from zkp.client.leader import LeaderConnection, LeaderRetry
from zkp.protocol.v1 import coordinator_pb2 as pb

log = logging.getLogger("zkp.client")

_PATIENCE_S = 10.0  # of one search for the leader; then the next begins
_PAUSES = Backoff(initial=1.0, ceiling=10.0)


async def follow(connection: LeaderConnection, refuse: Callable[[Sequence[int]], None]) -> None:
    """Tell `refuse` the serial number of every revoked certificate, old ones first, new ones as they come.

    Never returns; cancel it. Needs the certificate of a worker or a gateway.
    """
    follower = _Follower(connection, refuse)
    failures = 0
    while True:
        route = connection.route(_PATIENCE_S)
        try:
            while True:
                await follower.follow_next(route)
                failures = 0
        except ClientError as error:
            failures += 1
            # That nobody leads is said by whoever has work for the leader.
            log.log(logging.DEBUG if isinstance(error, NoLeader) else logging.ERROR, "revocations: %s", error)
            await asyncio.sleep(_PAUSES.delay(failures, random.random()))  # noqa: S311 - spreads retries


class _Follower:
    """Remembers how far it has read, whichever leader it reads from."""

    def __init__(self, connection: LeaderConnection, refuse: Callable[[Sequence[int]], None]) -> None:
        self._connection = connection
        self._refuse = refuse
        self._revision = 0

    async def follow_next(self, route: LeaderRetry) -> None:
        """Follow whoever may lead until that ends; raises the ClientError of an answer that is final."""
        line = await route.line()
        request = pb.WatchRevocationsRequest(after_revision=self._revision)
        stream = line.stream(lambda stubs: stubs.revocations.WatchRevocations, request)
        try:
            async with contextlib.aclosing(stream):
                async for message in stream:
                    route.reached(line)
                    self._take(message)
            route.failed(line, stream_ended())
        except CallFailed as failure:
            route.failed(line, failure)

    def _take(self, message: pb.Revocations) -> None:
        if message.revocations:
            self._refuse([int(revocation.serial, 16) for revocation in message.revocations])
            self._revision = message.revocations[-1].revision
