"""The connection to whichever coordinator leads.

Every call of this API may be repeated: submissions carry their id, reports their attempt. So a call whose
outcome is unknown is made again, at whoever leads by then, until the caller's deadline. An answer that
would not change is raised at once.
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
CALL_TIMEOUT_S = 5.0  # at one address: a stopped leader must not eat the whole deadline
_ROUNDS = Backoff(initial=0.05, ceiling=1.0, factor=1.5)


class LeaderConnection:
    """Finds the leader among `addresses` (HOST:PORT) and follows it.

    Redirects to other addresses than the configured ones are followed too: whoever answers there must prove
    to be a coordinator of the trust domain (see `dial.py`). Raises `InvalidAddress`. Use within one event
    loop; close it.
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
            raise ClientError("no coordinator addresses: name at least one HOST:PORT")
        self.addresses = tuple(dict.fromkeys(addresses))
        self._dialer = dialer(material)
        self._rng = rng or random.SystemRandom()
        self._leader: str | None = None
        self._lines: dict[str, tuple[object, Channel]] = {}
        self._dialing: dict[str, asyncio.Task[Channel]] = {}
        self._retired: set[Channel] = set()

    @property
    def leader(self) -> str | None:
        """The address that last answered as leader, if it has not failed since."""
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
        """The leader's answer to `request`, asked for until `timeout` seconds have passed.

        `method` picks from the stubs: `lambda stubs: stubs.tasks.GetTask`. Raises `NoLeader` at the
        deadline, or the `ClientError` that the leader's refusal means.
        """
        route = self.route(timeout)
        while True:
            line = await route.line()
            try:
                answer = await line.call(method, request, timeout=min(route.remaining(), CALL_TIMEOUT_S))
            except CallFailed as failure:
                route.failed(line, failure)
            else:
                route.reached(line)
                return answer

    def route(self, patience: float) -> "LeaderRetry":
        """A way to the leader for calls that are more than one answer. `patience` in seconds."""
        return LeaderRetry(self, patience, self._rng)

    async def open(self, address: str, timeout: float = _DIAL_TIMEOUT_S) -> Channel:
        """The line to exactly this coordinator, opened if need be; raises `DialFailed`.

        Lines made before the credentials were reloaded are replaced here; what runs on them may finish.
        """
        generation = self._dialer.generation
        made, line = self._lines.get(address, (None, None))
        if line is not None:
            if made == generation:
                return line
            self.give_up(line)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._dial_once(address, generation))
        except TimeoutError:
            raise DialFailed(f"no answer within {timeout:.1f} s") from None

    def _dial_once(self, address: str, generation: object) -> asyncio.Task[Channel]:
        """One handshake for however many calls wait for it."""
        task = self._dialing.get(address)
        if task is None:
            task = asyncio.create_task(self._dial(address, generation))
            self._dialing[address] = task
            # Reads the exception too: whoever waited may have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _dial(self, address: str, generation: object) -> Channel:
        try:
            line = await self._dialer.dial(address, _DIAL_TIMEOUT_S)
        finally:
            del self._dialing[address]
        self._lines[address] = (generation, line)
        return line

    def remember(self, line: Channel) -> None:
        """`line` goes to the leader."""
        self._leader = line.address

    def forget(self, address: str) -> None:
        """The coordinator at `address` does not lead, or no longer."""
        if self._leader == address:
            self._leader = None

    def give_up(self, line: Channel) -> None:
        """Open a new line when this address is needed again; calls that run on this one may finish."""
        if self._lines.get(line.address, (None, None))[1] is line:
            del self._lines[line.address]
            self._retired.add(line)
            line.retire(self._retired.discard)

    def is_current(self, line: Channel) -> bool:
        """Whether the line was made with the credentials of now."""
        made, known = self._lines.get(line.address, (None, None))
        return known is line and made == self._dialer.generation

    def refresh(self) -> None:
        """Give up every line that was made before the credentials were reloaded."""
        for made, line in list(self._lines.values()):
            if made != self._dialer.generation:
                self.give_up(line)

    async def close(self) -> None:
        """End every call and connection."""
        dialing = list(self._dialing.values())
        for task in dialing:
            task.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        lines = [line for _, line in self._lines.values()] + list(self._retired)
        self._lines.clear()
        await asyncio.gather(*(line.close() for line in lines))


class LeaderRetry:
    """One operation's way to the leader: ask for a line, say what came of it, ask again.

    `patience` (seconds) bounds the search; it starts anew when a leader that was reached fails.
    """

    def __init__(self, connection: LeaderConnection, patience: float, rng: random.Random) -> None:
        self._connection = connection
        self._patience = patience
        self._rng = rng
        self._rounds = 0
        self._reached: Channel | None = None
        self._itinerary = LeaderSearch(connection.addresses, start=rng.randrange(len(connection.addresses)))
        self._itinerary.begin_round(connection.leader)
        self._deadline = asyncio.get_running_loop().time() + patience

    def remaining(self) -> float:
        """Seconds until the search is given up."""
        return self._deadline - asyncio.get_running_loop().time()

    async def line(self) -> Channel:
        """A line to whoever may lead; raises `NoLeader` when the patience has run out."""
        while True:
            remaining = self.remaining()
            if remaining <= 0:
                raise self.no_leader()
            address = self._itinerary.next()
            if address is None:
                await self._pause(remaining)
                continue
            try:
                return await self._connection.open(address, min(remaining, _DIAL_TIMEOUT_S))
            except DialFailed as failure:
                self._connection.forget(address)
                self._itinerary.failed(address, failure.reason, hopeless=failure.hopeless)

    def reached(self, line: Channel) -> None:
        """`line` answered as the leader does."""
        self._connection.remember(line)
        self._rounds = 0
        self._itinerary.reached(line.address)
        self._reached = line

    def failed(self, line: Channel, failure: CallFailed) -> None:
        """Take note that `failure` came over `line`; raises the `ClientError` it means if no retry helps."""
        if line is self._reached:  # it may have served for hours: the search begins now
            self._reached = None
            self._deadline = asyncio.get_running_loop().time() + self._patience
        if failure.code is grpc.StatusCode.UNAUTHENTICATED and not self._connection.is_current(line):
            # The certificate behind it was replaced, and has expired or was revoked since: the new one may do.
            self._connection.give_up(line)
            self._itinerary.begin_round(line.address)
        elif failure.not_leader:
            self._connection.forget(line.address)
            self._itinerary.not_leader(line.address, failure.metadata.get(LEADER_METADATA))
        elif failure.passing:
            self._connection.forget(line.address)
            self._connection.give_up(line)
            self._itinerary.failed(line.address, failure.details or failure.code.name)
        else:
            self._connection.remember(line)
            raise final_error(failure)

    async def _pause(self, remaining: float) -> None:
        if self._itinerary.hopeless:
            raise Untrusted(
                f"no coordinator is trusted, or trusts us ({self._tried()}): check the "
                "certificate files and the addresses",
                self._itinerary.answers,
            )
        self._rounds += 1
        await asyncio.sleep(min(remaining, _ROUNDS.delay(self._rounds, self._rng.random())))
        self._itinerary.begin_round(self._connection.leader)

    def no_leader(self) -> NoLeader:
        """The error for when the search is given up now."""
        return NoLeader(
            f"no leader answered within {self._patience:g} s ({self._tried() or 'no response'}): "
            "check that a majority of coordinators is running and that the addresses are correct",
            self._itinerary.answers,
        )

    def _tried(self) -> str:
        return "; ".join(f"{address}: {answer}" for address, answer in self._itinerary.answers.items())
