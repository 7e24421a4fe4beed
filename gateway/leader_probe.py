"""Background probe of the leader, so that /health and /ready never wait for the coordinators."""

import asyncio
import logging

from gateway.network import CoordinatorClient
from zkp.client.errors import ClientError, NoLeader, Refused

log = logging.getLogger("zkp.gateway")

_INTERVAL_S = 5.0
_TIMEOUT_S = 3.0  # an election takes well under a second
_INVALID_PAGE_TOKEN = "probe"  # noqa: S105 - not a secret; never issued by a listing


class LeaderProbe:
    """Probes the leader with a listing request whose page token is invalid; the rejection shows that it serves.

    The leader rejects the token before any query, so the probe is cheap, and the network counts as reachable while
    its database is unavailable, in which case submissions are still accepted.
    """

    def __init__(self, network: CoordinatorClient) -> None:
        self._network = network
        self._reason: str | None = "not probed yet"

    @property
    def reachable(self) -> bool:
        """Whether the leader answered the last probe."""
        return self._reason is None

    async def run(self) -> None:
        """Probe at intervals, until cancelled."""
        while True:
            await self.probe()
            await asyncio.sleep(_INTERVAL_S)

    async def probe(self) -> None:
        """Probe once."""
        reason = await self._unreachable_reason()
        if reason is None and self._reason is not None:
            log.info("proving network is reachable")
        elif reason is not None and reason != self._reason:
            log.warning("proving network is unreachable: %s", reason)
        self._reason = reason

    async def _unreachable_reason(self) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._network.page(size=1, token=_INVALID_PAGE_TOKEN)
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S:g} s"
        except (NoLeader, Refused) as error:
            return str(error)
        except ClientError:
            return None  # an answer: the leader serves
        return None
