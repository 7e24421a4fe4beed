"""The worker's life on the network: find the leader, serve it, find the next one, for ever.

What it works on goes on meanwhile: coordinators that are away for minutes cost a worker nothing but new
tasks.
"""

import asyncio
import contextlib
import logging
import random
from enum import StrEnum

from worker.attempt_runner import AttemptRunner
from worker.reports import trouble
from worker.retry import ReportOutcome, RetryPolicy
from worker.session import Registration, Session, WorkerInfo, first_of
from zkp.client.errors import ClientError, NoLeader, NotFound
from zkp.client.failures import CallFailed
from zkp.client.leader import LeaderConnection, LeaderRetry

log = logging.getLogger("zkp.worker")

_PATIENCE_S = 30.0  # of one search; then its failure is logged and the next one begins
_HAND_BACK_S = 5.0


class Phase(StrEnum):
    """How the worker stands with the coordinators."""

    SEARCHING = "searching"
    ONLINE = "online"
    REFUSED = "refused"
    DRAINING = "draining"


class Agent:
    """One worker. Run `serve` until it is time to stop, then `drain` while it goes on, then cancel it."""

    def __init__(
        self,
        *,
        connection: LeaderConnection,
        membership: WorkerInfo,
        workbench: AttemptRunner,
        policy: RetryPolicy | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._connection = connection
        self._membership = membership
        self._workbench = workbench
        self._policy = policy or RetryPolicy()
        self._rng = rng or random.SystemRandom()
        self._draining = asyncio.Event()
        self._phase = Phase.SEARCHING
        self._leaderless = asyncio.Event()
        self._leaderless.set()
        self._failures = 0
        self._nudge = asyncio.Event()
        self._renewed = asyncio.Event()
        self._registration: Registration | None = None

    @property
    def phase(self) -> Phase:
        """What /health says."""
        return Phase.DRAINING if self._draining.is_set() else self._phase

    @property
    def leader(self) -> str | None:
        """The address of the leader that this worker serves, if any."""
        return self._connection.leader if self._phase is Phase.ONLINE else None

    async def serve(self) -> None:
        """Never returns; cancel it."""
        while True:
            route = self._connection.route(_PATIENCE_S)
            try:
                while await self._serve_next(route):
                    pass
            except ClientError as error:
                self._failures += 1
                await self._pause(error)

    def retry_now(self) -> None:
        """Do not wait for the next try: something has changed, the certificate perhaps."""
        self._nudge.set()

    def renew(self) -> None:
        """The certificate has changed: go on with the new one, before the old one's end would end us."""
        self._renewed.set()
        self.retry_now()

    async def drain(self, timeout: float) -> None:
        """Take no more tasks, finish what can be finished in `timeout` seconds, hand back the rest.

        Proofs that no leader has taken by then stay in the spool. While no leader serves this worker, proofs that are
        in the spool are not waited for.
        """
        self._draining.set()
        log.info("stopping, attempts held: %d", len(self._workbench.held()))
        await self._workbench.drain(timeout, self._leaderless)
        await self._workbench.close(_HAND_BACK_S)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.ONLINE:
            self._leaderless.clear()
        else:
            self._leaderless.set()

    async def _serve_next(self, route: LeaderRetry) -> bool:
        """Serve whoever may lead until that ends; raises the `ClientError` of an answer that is final.

        False: the search is to begin anew, with another certificate.
        """
        self._renewed.clear()
        line = await route.line()
        session = Session(line, self._membership, self._workbench, self._draining)
        before, self._registration = self._registration, None
        known = False

        def registered(registration: Registration) -> None:
            nonlocal known
            known = True
            route.reached(line)
            self._enter(Phase.ONLINE)
            if registration is not before:
                log.info("registered with the leader", extra={"peer": line.address})
            self._registration = registration

        try:
            await first_of(session.run(registered, before), self._renewal())
        except CallFailed as failure:
            self._enter(Phase.SEARCHING)
            self._registration = None
            if known:
                log.warning("lost the leader: %s", failure.details, extra={"peer": line.address})
            if session.settled:
                self._failures = 0
            route.failed(line, failure)
            if known and not session.settled and not failure.not_leader:
                # It took us in and let us go at once: registering is a replicated command, not a poll.
                self._failures += 1
                await asyncio.sleep(self._policy.away.delay(self._failures, self._rng.random()))
            return True
        log.info("certificate changed, going on with the new one", extra={"peer": line.address})
        return False

    async def _renewal(self) -> None:
        await self._renewed.wait()

    async def _pause(self, error: ClientError) -> None:
        kind = trouble(error)
        if kind is ReportOutcome.REFUSED:
            self._enter(Phase.REFUSED)
            log.error("coordinators refuse this worker, will ask again: %s", error)
        elif isinstance(error, NoLeader):
            log.warning("still searching: %s", error)
        elif isinstance(error, NotFound):
            log.info("unknown to the leader, registering again")
        else:
            log.error("registration refused, will try again: %s", error)
        kind = ReportOutcome.AWAY if kind is ReportOutcome.SETTLED else kind
        delay = self._policy.delay(kind, self._failures, self._rng.random())
        self._nudge.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._nudge.wait()
