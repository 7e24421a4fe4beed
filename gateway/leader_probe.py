"""Whether the proving network can be reached: asked in the background, so that a probe never waits for it."""

import asyncio
import logging

from gateway.network import CoordinatorClient
from zkp.client.errors import ClientError, NoLeader, Refused

log = logging.getLogger("zkp.gateway")

_INTERVAL_S = 5.0
_PATIENCE_S = 3.0  # an election takes well under a second
_NO_PAGE = "probe"  # no listing hands it out


class LeaderProbe:
    """Asks the leader for a page that does not exist: that it says so is all that is wanted.

    It says so before it looks anything up, so this costs nothing, and the network counts as reachable while
    its database is away, which stops nobody from submitting.
    """

    def __init__(self, network: CoordinatorClient) -> None:
        self._network = network
        self._reason: str | None = "not queried yet"

    @property
    def reachable(self) -> bool:
        """Whether the leader answered when it was last asked."""
        return self._reason is None

    async def run(self) -> None:
        """Ask every few seconds, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_INTERVAL_S)

    async def look(self) -> None:
        """Ask once."""
        reason = await self._unreachable_because()
        if reason is None and self._reason is not None:
            log.info("proving network reached")
        elif reason is not None and reason != self._reason:
            log.warning("proving network cannot be reached: %s", reason)
        self._reason = reason

    async def _unreachable_because(self) -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._network.page(size=1, token=_NO_PAGE)
        except TimeoutError:
            return f"no answer within {_PATIENCE_S:g} s"
        except (NoLeader, Refused) as error:
            return str(error)
        except ClientError:
            return None  # an answer, if not a task
        return None
