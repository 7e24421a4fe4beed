"""Follows the cluster's revocations, for servers that must reject revoked certificates."""

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

_SEARCH_TIMEOUT_S = 10.0  # of one search for the leader, before the backoff
_BACKOFF = Backoff(initial=1.0, ceiling=10.0)


async def follow(connection: LeaderConnection, refuse: Callable[[Sequence[int]], None]) -> None:
    """Call `refuse` with the serial numbers of all revoked certificates, then with new ones as they are revoked.

    Runs until it is cancelled. Requires a worker's or gateway's certificate.
    """
    follower = _Follower(connection, refuse)
    failures = 0
    while True:
        retry = connection.retry(_SEARCH_TIMEOUT_S)
        try:
            while True:
                await follower.follow_next(retry)
                failures = 0
        except ClientError as error:
            failures += 1
            # A missing leader is reported by the component that has work for it.
            log.log(logging.DEBUG if isinstance(error, NoLeader) else logging.ERROR, "revocations: %s", error)
            await asyncio.sleep(_BACKOFF.delay(failures, random.random()))  # noqa: S311 - spreads retries


class _Follower:
    """Keeps the revision up to which revocations have been read, across leaders."""

    def __init__(self, connection: LeaderConnection, refuse: Callable[[Sequence[int]], None]) -> None:
        self._connection = connection
        self._refuse = refuse
        self._revision = 0

    async def follow_next(self, retry: LeaderRetry) -> None:
        """Follow one possible leader until its stream ends; raises the `ClientError` of a final answer."""
        channel = await retry.channel()
        request = pb.WatchRevocationsRequest(after_revision=self._revision)
        stream = channel.stream(lambda stubs: stubs.revocations.WatchRevocations, request)
        try:
            async with contextlib.aclosing(stream):
                async for message in stream:
                    retry.reached(channel)
                    self._apply(message)
            retry.failed(channel, stream_ended())
        except CallFailed as failure:
            retry.failed(channel, failure)

    def _apply(self, message: pb.Revocations) -> None:
        if message.revocations:
            self._refuse([int(revocation.serial, 16) for revocation in message.revocations])
            self._revision = message.revocations[-1].revision
