"""The connection to the leader of the cluster.

Every call of this API is idempotent: submissions carry their id, reports their attempt. A call whose outcome is
unknown is therefore repeated at the current leader until the caller's deadline. A final answer is raised at once.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc

from pki.tls.material import TlsMaterial
from zkp.client.backoff import Backoff
from zkp.client.channel import Channel, Stubs
from zkp.client.dial import Dialer, TlsDialer
from zkp.client.errors import ClientError, NoLeader, Untrusted
from zkp.client.failures import LEADER_METADATA, CallFailed, DialFailed, final_error
from zkp.client.leader_search import LeaderSearch, parse_address

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

Req = TypeVar("Req")
Resp = TypeVar("Resp")

_DIAL_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 5.0  # at one address, so that a stopped leader does not use up the whole deadline
_ROUND_BACKOFF = Backoff(initial=0.05, ceiling=1.0, factor=1.5)


class LeaderConnection:
    """Finds the leader among `addresses` (HOST:PORT) and follows it.

    Redirects to addresses that are not configured are followed too: the server there must authenticate as a
    coordinator of the trust domain (see `dial.py`). Use it within one event loop, and close it.

    Raises:
        InvalidAddress: an address is not HOST:PORT.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        material: TlsMaterial,
        *,
        dialer: Callable[[TlsMaterial], Dialer] = TlsDialer,
        rng: random.Random | None = None,
    ) -> None:
        for address in addresses:
            parse_address(address)
        if not addresses:
            raise ClientError("coordinator addresses: none is given; give at least one HOST:PORT")
        self.addresses = tuple(dict.fromkeys(addresses))
        self._dialer = dialer(material)
        self._rng = rng or random.SystemRandom()
        self._leader: str | None = None
        self._channels: dict[str, tuple[object, Channel]] = {}
        self._dialing: dict[str, asyncio.Task[Channel]] = {}
        self._retired: set[Channel] = set()

    @property
    def leader(self) -> str | None:
        """The address that last answered as leader; None if it has failed since."""
        return self._leader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(
        self,
        method: "Callable[[Stubs], UnaryUnaryMultiCallable[Req, Resp]]",
        request: Req,
        *,
        timeout: float,
    ) -> Resp:
        """Return the leader's response to `request`, retrying for up to `timeout` seconds.

        Args:
            method: selects the RPC, as in `lambda stubs: stubs.tasks.GetTask`.

        Raises:
            NoLeader: the deadline has passed.
            ClientError: the leader rejected the request; the subclass says why.
        """
        retry = self.retry(timeout)
        while True:
            channel = await retry.channel()
            try:
                answer = await channel.call(method, request, timeout=min(retry.remaining(), CALL_TIMEOUT_S))
            except CallFailed as failure:
                retry.failed(channel, failure)
            else:
                retry.reached(channel)
                return answer

    def retry(self, timeout: float) -> "LeaderRetry":
        """Return the retry state of one operation, for streams and sequences of calls; `timeout` is in seconds."""
        return LeaderRetry(self, timeout, self._rng)

    async def open(self, address: str, timeout: float = _DIAL_TIMEOUT_S) -> Channel:
        """Return the channel to this coordinator, opening one if necessary; raises `DialFailed`.

        Channels opened before the credentials were reloaded are replaced here; calls that run on them may finish.
        """
        generation = self._dialer.generation
        made, channel = self._channels.get(address, (None, None))
        if channel is not None:
            if made == generation:
                return channel
            self.retire(channel)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._dial_once(address, generation))
        except TimeoutError:
            raise DialFailed(f"no answer within {timeout:.1f} s") from None

    def _dial_once(self, address: str, generation: object) -> asyncio.Task[Channel]:
        """Share one handshake among all calls that wait for it."""
        task = self._dialing.get(address)
        if task is None:
            task = asyncio.create_task(self._dial(address, generation))
            self._dialing[address] = task
            # Retrieves the exception, since the callers that waited may have been cancelled.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _dial(self, address: str, generation: object) -> Channel:
        try:
            channel = await self._dialer.dial(address, _DIAL_TIMEOUT_S)
        finally:
            del self._dialing[address]
        self._channels[address] = (generation, channel)
        return channel

    def set_leader(self, channel: Channel) -> None:
        """Record that the coordinator behind `channel` is the leader."""
        self._leader = channel.address

    def clear_leader(self, address: str) -> None:
        """Record that the coordinator at `address` is not, or no longer, the leader."""
        if self._leader == address:
            self._leader = None

    def retire(self, channel: Channel) -> None:
        """Stop using the channel: the next call opens a new one, and calls that run on this one may finish."""
        if self._channels.get(channel.address, (None, None))[1] is channel:
            del self._channels[channel.address]
            self._retired.add(channel)
            channel.retire(self._retired.discard)

    def is_current(self, channel: Channel) -> bool:
        """Return whether the channel is in use and was opened with the current credentials."""
        made, known = self._channels.get(channel.address, (None, None))
        return known is channel and made == self._dialer.generation

    def refresh(self) -> None:
        """Retire every channel that was opened before the credentials were reloaded."""
        for made, channel in list(self._channels.values()):
            if made != self._dialer.generation:
                self.retire(channel)

    async def close(self) -> None:
        """End every call and connection."""
        dialing = list(self._dialing.values())
        for task in dialing:
            task.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        channels = [channel for _, channel in self._channels.values()] + list(self._retired)
        self._channels.clear()
        await asyncio.gather(*(channel.close() for channel in channels))


class LeaderRetry:
    """Retry state of one operation: request a channel, report the result, request the next one.

    `timeout` (seconds) limits the search for a leader; it starts again when a leader that answered fails.
    """

    def __init__(self, connection: LeaderConnection, timeout: float, rng: random.Random) -> None:
        self._connection = connection
        self._timeout = timeout
        self._rng = rng
        self._rounds = 0
        self._reached: Channel | None = None
        self._search = LeaderSearch(connection.addresses, start=rng.randrange(len(connection.addresses)))
        self._search.begin_round(connection.leader)
        self._deadline = asyncio.get_running_loop().time() + timeout

    def remaining(self) -> float:
        """Return the seconds until the search is abandoned."""
        return self._deadline - asyncio.get_running_loop().time()

    async def channel(self) -> Channel:
        """Return a channel to the next possible leader; raises `NoLeader` when the timeout has passed."""
        while True:
            remaining = self.remaining()
            if remaining <= 0:
                raise self.no_leader()
            address = self._search.next()
            if address is None:
                await self._next_round(remaining)
                continue
            try:
                return await self._connection.open(address, min(remaining, _DIAL_TIMEOUT_S))
            except DialFailed as failure:
                self._connection.clear_leader(address)
                self._search.failed(address, failure.reason, permanent=failure.permanent)

    def reached(self, channel: Channel) -> None:
        """Report that the coordinator behind `channel` answered as the leader."""
        self._connection.set_leader(channel)
        self._rounds = 0
        self._search.reached(channel.address)
        self._reached = channel

    def failed(self, channel: Channel, failure: CallFailed) -> None:
        """Report a failed call; raises the corresponding `ClientError` if the failure is permanent."""
        if channel is self._reached:  # it may have served for hours, so the search begins now
            self._reached = None
            self._deadline = asyncio.get_running_loop().time() + self._timeout
        if failure.code is grpc.StatusCode.UNAUTHENTICATED and not self._connection.is_current(channel):
            # This channel's certificate has expired or was revoked, but a new one has been loaded: retry with it.
            self._connection.retire(channel)
            self._search.begin_round(channel.address)
        elif failure.not_leader:
            self._connection.clear_leader(channel.address)
            self._search.not_leader(channel.address, failure.metadata.get(LEADER_METADATA))
        elif failure.transient:
            self._connection.clear_leader(channel.address)
            self._connection.retire(channel)
            self._search.failed(channel.address, failure.details or failure.code.name)
        else:
            self._connection.set_leader(channel)
            raise final_error(failure)

    async def _next_round(self, remaining: float) -> None:
        if self._search.permanent:
            raise Untrusted(
                f"TLS handshake: failed with every coordinator ({self._tried()}); "
                "check the certificate files and the addresses",
                self._search.answers,
            )
        self._rounds += 1
        await asyncio.sleep(min(remaining, _ROUND_BACKOFF.delay(self._rounds, self._rng.random())))
        self._search.begin_round(self._connection.leader)

    def no_leader(self) -> NoLeader:
        """Return the error of a search that is abandoned now."""
        return NoLeader(
            f"no leader answered within {self._timeout:g} s ({self._tried() or 'no response'}); "
            "check that a majority of coordinators is running and that the addresses are correct",
            self._search.answers,
        )

    def _tried(self) -> str:
        return "; ".join(f"{address}: {answer}" for address, answer in self._search.answers.items())
