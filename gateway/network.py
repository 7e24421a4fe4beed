"""The proving network as the handlers see it, and its refusals as callers see them.

What an operator needs to know (addresses, certificates) goes to the log, not to callers.
"""

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from gateway import problems
from gateway.idempotency import HEADER
from gateway.problems import ApiProblem
from zkp.client.errors import AlreadyExists, ClientError, Conflict, Exhausted, InvalidSubmission, NoLeader, NotFound
from zkp.client.model import Accepted, Submission, Task, TaskPage, TaskState
from zkp.daemon.problems import ProblemKind

log = logging.getLogger("zkp.gateway")

_NO_LEADER_RETRY_S = 2.0  # an election takes well under a second
_ANSWERS: tuple[tuple[type[ClientError], tuple[ProblemKind, str, str | None]], ...] = (
    (NotFound, (problems.NO_SUCH_TASK, "no task with this id, or its retention period has passed", None)),
    (Conflict, (problems.TASK_ENDED, "the task has completed or failed, and cannot be cancelled", None)),
    (
        AlreadyExists,
        (
            problems.KEY_REUSED,
            f"{HEADER}: was used with another body; send that body again or another key",
            HEADER,
        ),
    ),
)


class CoordinatorClient(Protocol):
    """What the gateway asks of the coordinators; `client.streaming.StreamingTaskClient` does it.

    Every method raises a `ClientError`.
    """

    async def submit(self, submission: Submission) -> Accepted:
        """Have a quorum accept the task."""
        ...

    async def get(self, task_id: str) -> Task:
        """The task as it is now."""
        ...

    def watch(self, task_id: str) -> AsyncIterator[Task]:
        """The task as it is now, and again at each change, until its final state."""
        ...

    async def page(
        self, *, state: TaskState | None = None, circuit: str = "", size: int = 100, token: str = ""
    ) -> TaskPage:
        """One page of tasks, newest first."""
        ...

    async def cancel(self, task_id: str) -> Task:
        """Cancel the task."""
        ...


def refusal(error: ClientError) -> ApiProblem:
    """What a caller is told when the network answers with `error`."""
    if isinstance(error, InvalidSubmission):
        return _invalid(error)
    if isinstance(error, Exhausted):
        detail = "the network has as much work as it may hold; try again later"
        return ApiProblem(problems.NETWORK_UNAVAILABLE, detail, retry_after=error.retry_after)
    if isinstance(error, NoLeader):
        log.warning("%s", error)
        detail = "no coordinator can answer at the moment; try again"
        return ApiProblem(problems.NETWORK_UNAVAILABLE, detail, retry_after=_NO_LEADER_RETRY_S)
    for meant, answer in _ANSWERS:
        if isinstance(error, meant):
            return ApiProblem(*answer)
    log.error("the upstream request failed: %s", error)
    detail = "the upstream request failed; the gateway's log has the reason"
    return ApiProblem(problems.NETWORK_FAULT, detail)


def _invalid(error: InvalidSubmission) -> ApiProblem:
    if not error.field:
        return ApiProblem(problems.INVALID_FIELD, str(error))
    detail = str(error) if str(error).startswith(error.field) else f"{error.field}: {error}"
    return ApiProblem(problems.INVALID_FIELD, detail, error.field)
