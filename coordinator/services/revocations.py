"""Revocation of certificates: the use cases, and its enforcement on this node.

Revocations are replicated, so that a node that was down receives them from the log or a snapshot. Every node enforces
them by itself: once applied, the certificate is refused on every port.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from coordinator.errors import InvalidRequest, Overloaded
from coordinator.raft import NotLeader
from coordinator.replication.replicator import Replicator
from coordinator.state.commands import RevokeCertificate
from coordinator.state.machine import State
from coordinator.state.model import Revocation, TaskEvent
from pki.ca.profiles import ISSUER_LIFE
from zkp.protocol.limits import MAX_CERTIFICATES, SERIAL_PATTERN

log = logging.getLogger("zkp.coordinator")

_CHECK_INTERVAL_S = 0.5
_MAX_FOLLOWERS = 10_000
_RETRY_AFTER_S = 5.0
_MAX_VALIDITY = ISSUER_LIFE + timedelta(days=1)  # of a certificate: none outlives its issuer
_SERIAL = re.compile(SERIAL_PATTERN)
_PRINTABLE = re.compile(r"[ -~]{0,128}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is to be revoked.

    serial: hexadecimal, lower case, without leading zeros; subject: as ROLE/NAME, or empty; not_after_ms: when it
    expires, 0 if unknown.
    """

    serial: str
    subject: str = ""
    reason: str = ""
    not_after_ms: int = 0


class Revocations:
    """One node's side of it. Listens to the replicator from its construction on.

    refuse: called with the serial numbers to refuse from now on; close: ends whatever the holders of
    refused certificates have open, called at once and then twice a second, since lists on the disk change too.
    find_worker: the id of the worker that uses the certificate of a serial number, or ""; find_caller: ROLE/NAME of
    the caller that this node has admitted with it, or "". Serial numbers are hexadecimal, without leading zeros.
    """

    def __init__(
        self,
        replicator: Replicator,
        *,
        refuse: Callable[[Iterable[int]], None],
        close: Callable[[], None],
        find_worker: Callable[[str], str],
        find_caller: Callable[[str], str],
        clock_ms: Callable[[], int],
    ) -> None:
        self._replicator = replicator
        self._refuse = refuse
        self._close = close
        self._find_worker = find_worker
        self._find_caller = find_caller
        self._clock_ms = clock_ms
        self._known: State | None = None
        self._followers = 0
        self._ended: Exception | None = None
        self._changed = asyncio.Event()
        replicator.on_events(self._applied)
        replicator.on_leadership(lambda _: self._wake())

    # ------------------------------------------------------------ use cases

    async def revoke(self, certificates: Sequence[Certificate], own_serial: str) -> tuple[int, list[Revocation]]:
        """Have the cluster revoke all of them.

        Args:
            own_serial: of the certificate behind the request.

        Returns:
            How many were not revoked before, and the revocation of each certificate with the holder that is known.

        Raises:
            InvalidRequest, Overloaded.
        """
        self._replicator.require_leader()
        if not 1 <= len(certificates) <= MAX_CERTIFICATES:
            raise InvalidRequest("certificates", f"must be 1 to {MAX_CERTIFICATES}")
        commands = [self._command(index, one, own_serial) for index, one in enumerate(certificates)]
        outcomes = await self._replicator.submit_all(commands)
        refusal = next((outcome.refusal for outcome in outcomes if outcome.refusal is not None), None)
        if refusal is not None:
            raise Overloaded(refusal.message, _RETRY_AFTER_S)
        revoked = self._replicator.state.revoked
        found = [revoked[one.serial] for one in commands if one.serial in revoked]
        return sum(not outcome.duplicate for outcome in outcomes), found

    def _command(self, index: int, certificate: Certificate, own_serial: str) -> RevokeCertificate:
        path = f"certificates[{index}]"
        if not _SERIAL.fullmatch(certificate.serial):
            raise InvalidRequest(f"{path}.serial", "write it hexadecimal, lower case, without leading zeros")
        if certificate.serial == own_serial:
            raise InvalidRequest(
                f"{path}.serial", "is the certificate used for this request: use another admin's certificate"
            )
        for name, text in (("subject", certificate.subject), ("reason", certificate.reason)):
            if not _PRINTABLE.fullmatch(text):
                raise InvalidRequest(f"{path}.{name}", "at most 128 printable ASCII characters")
        latest = self._clock_ms() + int(_MAX_VALIDITY.total_seconds() * 1000)
        worker_id = self._find_worker(certificate.serial)
        return RevokeCertificate(
            certificate.serial,
            certificate.subject or (f"worker/{worker_id}" if worker_id else self._find_caller(certificate.serial)),
            certificate.reason,
            min(max(certificate.not_after_ms, 0) or latest, latest),
            worker_id,
        )

    async def page(self, after: int, size: int) -> Sequence[Revocation]:
        """Return revocations after that revision, oldest first; size 0 means the default."""
        self._replicator.require_leader()
        if size > MAX_CERTIFICATES:
            raise InvalidRequest("page_size", f"must be 1 to {MAX_CERTIFICATES}")
        await self._replicator.barrier()
        return self._after(after, size or MAX_CERTIFICATES)

    async def follow(self, after: int) -> AsyncGenerator[Sequence[Revocation], None]:
        """Yield revocations after that revision, perhaps none, then new ones while this node leads.

        Raises Overloaded when too many follow already.
        """
        self._replicator.require_leader()
        if self._followers >= _MAX_FOLLOWERS:
            raise Overloaded(f"{_MAX_FOLLOWERS} callers follow the revocations, which is the limit", _RETRY_AFTER_S)
        self._followers += 1
        begun = False
        try:
            while True:
                changed = self._changed
                if self._ended is not None:
                    raise self._ended
                if not self._replicator.is_leader:
                    raise NotLeader(self._replicator.leader_id)
                found = self._after(after, MAX_CERTIFICATES)
                if found or not begun:
                    begun = True
                    after = found[-1].revision if found else after
                    yield found
                else:
                    await changed.wait()
        finally:
            self._followers -= 1

    def end_all(self, reason: Exception) -> None:
        """End all `follow` streams with `reason`, because the process stops."""
        self._ended = reason
        self._wake()

    def _after(self, revision: int, limit: int) -> list[Revocation]:
        newer: list[Revocation] = []
        for revocation in reversed(self._replicator.state.revoked.values()):
            if revocation.revision <= revision:
                break
            newer.append(revocation)
        return newer[: -limit - 1 : -1]

    # ------------------------------------------------------------ enforcement

    def catch_up(self) -> None:
        """Enforce all revocations of the state: at the start, and after a snapshot replaced it."""
        state = self._replicator.state
        if state is not self._known:
            self._known = state
            self._refuse([int(serial, 16) for serial in state.revoked])
            self._close()

    async def run(self) -> None:
        """Check twice per second, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self.catch_up()
            self._close()

    def _applied(self, events: Sequence[TaskEvent]) -> None:
        revoked = [int(event.revocation.serial, 16) for event in events if event.revocation is not None]
        if not revoked:
            return
        try:
            self._refuse(revoked)
            self._close()
        except Exception:
            # What listens to the state must never stop the state; the next regular look tries again.
            self._known = None
            log.exception("revocations were not acted on")
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
