"""The task service for clients that submit many tasks, such as a gateway."""

from types import TracebackType
from typing import Self

from zkp.client.leader import LeaderConnection
from zkp.client.model import Accepted, Submission
from zkp.client.tasks import DEFAULT_TIMEOUT_S, TaskClient

_WINDOW = 1_024


class StreamingTaskClient(TaskClient):
    """A `TaskClient` whose submissions share one stream, which costs the leader a fraction of a unary call each.

    Enter it before the first `submit`; leaving ends the stream.
    """

    def __init__(self, connection: LeaderConnection, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        super().__init__(connection, timeout=timeout)
        self._shared = self.pipeline(window=_WINDOW)

    async def __aenter__(self) -> Self:
        await self._shared.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shared.__aexit__(kind, error, trace)

    async def submit(self, submission: Submission) -> Accepted:
        """See `TaskClient.submit`."""
        return await self._shared.submit(submission)
