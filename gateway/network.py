"""Interface to the coordinators, and the mapping of their errors to problem details.

Details for the operator (addresses, certificates) are logged and not returned to callers.
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
_PROBLEMS: tuple[tuple[type[ClientError], tuple[ProblemKind, str, str | None]], ...] = (
    (NotFound, (problems.NO_SUCH_TASK, "unknown task id, or the task has been deleted", None)),
    (Conflict, (problems.TASK_ENDED, "the task has completed or failed; it cannot be cancelled", None)),
    (
        AlreadyExists,
        (
            problems.KEY_REUSED,
            f"{HEADER}: already used with a different body; repeat that body or use a new key",
            HEADER,
        ),
    ),
)


class CoordinatorClient(Protocol):
    """Operations of the coordinators; implemented by `zkp.client.streaming.StreamingTaskClient`.

    Every method raises `ClientError`.
    """

    async def submit(self, submission: Submission) -> Accepted:
        """Submit a task; returns once a quorum has accepted it."""
        ...

    async def get(self, task_id: str) -> Task:
        """Return the current task."""
        ...

    def watch(self, task_id: str) -> AsyncIterator[Task]:
        """Yield the current task and each later version, until its final state."""
        ...

    async def page(
        self, *, state: TaskState | None = None, circuit: str = "", size: int = 100, token: str = ""
    ) -> TaskPage:
        """Return one page of tasks, newest first."""
        ...

    async def cancel(self, task_id: str) -> Task:
        """Cancel the task."""
        ...


def to_problem(error: ClientError) -> ApiProblem:
    """Return the problem for an error of the coordinators."""
    if isinstance(error, InvalidSubmission):
        return _invalid(error)
    if isinstance(error, Exhausted):
        detail = "task backlog is full; retry later"
        return ApiProblem(problems.NETWORK_UNAVAILABLE, detail, retry_after=error.retry_after)
    if isinstance(error, NoLeader):
        log.warning("%s", error)
        detail = "no coordinator is available; retry"
        return ApiProblem(problems.NETWORK_UNAVAILABLE, detail, retry_after=_NO_LEADER_RETRY_S)
    for error_type, problem in _PROBLEMS:
        if isinstance(error, error_type):
            return ApiProblem(*problem)
    log.error("upstream request failed: %s", error)
    detail = "upstream request failed; see the gateway log"
    return ApiProblem(problems.NETWORK_FAULT, detail)


def _invalid(error: InvalidSubmission) -> ApiProblem:
    if not error.field:
        return ApiProblem(problems.INVALID_FIELD, str(error))
    detail = str(error) if str(error).startswith(error.field) else f"{error.field}: {error}"
    return ApiProblem(problems.INVALID_FIELD, detail, error.field)
