"""The worker's main loop: find the leader, serve it until that ends, repeat.

Held attempts continue meanwhile: while no coordinator is reachable, a worker only receives no new tasks.
"""

import asyncio
import contextlib
import logging
import random
from enum import StrEnum

from worker.attempt_runner import AttemptRunner
from worker.reports import report_outcome
from worker.retry import ReportOutcome, RetryPolicy
from worker.session import Registration, Session, WorkerInfo, first_of
from zkp.client.errors import ClientError, NoLeader, NotFound
from zkp.client.failures import CallFailed
from zkp.client.leader import LeaderConnection, LeaderRetry

log = logging.getLogger("zkp.worker")

_LEADER_SEARCH_TIMEOUT_S = 30.0  # afterwards the failure is logged and the search restarts
_RELEASE_TIMEOUT_S = 5.0


class Phase(StrEnum):
    """The state of the worker's connection to the cluster."""

    SEARCHING = "searching"
    ONLINE = "online"
    REFUSED = "refused"
    DRAINING = "draining"


class Agent:
    """One worker. Run `serve`; to stop, call `drain` while `serve` still runs, then cancel `serve`."""

    def __init__(
        self,
        *,
        connection: LeaderConnection,
        info: WorkerInfo,
        runner: AttemptRunner,
        policy: RetryPolicy | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._connection = connection
        self._info = info
        self._runner = runner
        self._policy = policy or RetryPolicy()
        self._rng = rng or random.SystemRandom()
        self._draining = asyncio.Event()
        self._phase = Phase.SEARCHING
        self._leaderless = asyncio.Event()
        self._leaderless.set()
        self._failures = 0
        self._retry_now = asyncio.Event()
        self._certificate_changed = asyncio.Event()
        self._registration: Registration | None = None

    @property
    def phase(self) -> Phase:
        """The state shown by /health."""
        return Phase.DRAINING if self._draining.is_set() else self._phase

    @property
    def leader(self) -> str | None:
        """Address of the leader that this worker serves, None without one."""
        return self._connection.leader if self._phase is Phase.ONLINE else None

    async def serve(self) -> None:
        """Serve leaders until cancelled."""
        while True:
            retry = self._connection.retry(_LEADER_SEARCH_TIMEOUT_S)
            try:
                while await self._serve_next(retry):
                    pass
            except ClientError as error:
                self._failures += 1
                await self._back_off(error)

    def retry_now(self) -> None:
        """End the current backoff, for example after a change of the certificate."""
        self._retry_now.set()

    def certificate_changed(self) -> None:
        """Reconnect with the new certificate, before the old one expires and its connections are closed."""
        self._certificate_changed.set()
        self.retry_now()

    async def drain(self, timeout: float) -> None:
        """Accept no more tasks, finish within `timeout` seconds where possible, release the rest.

        Unacknowledged proofs stay in the spool. While this worker has no leader, spooled proofs are not waited for.
        """
        self._draining.set()
        log.info("stopping; attempts held: %d", len(self._runner.held()))
        await self._runner.drain(timeout, self._leaderless)
        await self._runner.close(_RELEASE_TIMEOUT_S)

    def _set_phase(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.ONLINE:
            self._leaderless.clear()
        else:
            self._leaderless.set()

    async def _serve_next(self, retry: LeaderRetry) -> bool:
        """Serve the next candidate for the leader until the session ends.

        Returns:
            True to try the next candidate, False to restart the search with a new certificate.

        Raises:
            ClientError: The failure is final.
        """
        self._certificate_changed.clear()
        channel = await retry.channel()
        session = Session(channel, self._info, self._runner, self._draining)
        previous, self._registration = self._registration, None
        known = False

        def registered(registration: Registration) -> None:
            nonlocal known
            known = True
            retry.reached(channel)
            self._set_phase(Phase.ONLINE)
            if registration is not previous:
                log.info("registered with the leader", extra={"peer": channel.address})
            self._registration = registration

        try:
            await first_of(session.run(registered, previous), self._wait_for_certificate())
        except CallFailed as failure:
            self._set_phase(Phase.SEARCHING)
            self._registration = None
            if known:
                log.warning("lost the leader: %s", failure.details, extra={"peer": channel.address})
            if session.heartbeat_acknowledged:
                self._failures = 0
            retry.failed(channel, failure)
            if known and not session.heartbeat_acknowledged and not failure.not_leader:
                # It ended right after the registration: back off, since each registration is a replicated command.
                self._failures += 1
                await asyncio.sleep(self._policy.unavailable.delay(self._failures, self._rng.random()))
            return True
        log.info("certificate changed; reconnecting with the new one", extra={"peer": channel.address})
        return False

    async def _wait_for_certificate(self) -> None:
        await self._certificate_changed.wait()

    async def _back_off(self, error: ClientError) -> None:
        kind = report_outcome(error)
        if kind is ReportOutcome.REFUSED:
            self._set_phase(Phase.REFUSED)
            log.error("coordinators refuse this worker; retrying: %s", error)
        elif isinstance(error, NoLeader):
            log.warning("no leader found; retrying: %s", error)
        elif isinstance(error, NotFound):
            log.info("leader does not know this worker; registering again")
        else:
            log.error("registration failed; retrying: %s", error)
        kind = ReportOutcome.UNAVAILABLE if kind is ReportOutcome.SETTLED else kind
        delay = self._policy.delay(kind, self._failures, self._rng.random())
        self._retry_now.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._retry_now.wait()
