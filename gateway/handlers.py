"""Handlers of the task endpoints; errors are raised as `ApiProblem`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from multidict import MultiMapping

from gateway import problems, requests, tasks_json
from gateway.idempotency import HEADER, new_task_id, read_key
from gateway.network import CoordinatorClient, to_problem
from gateway.problems import ApiProblem
from gateway.submission_pool import SubmissionPool
from zkp.client import task_json
from zkp.client.errors import ClientError
from zkp.client.model import Submission, Task, TaskState

T = TypeVar("T")

CALLER: web.RequestKey[str] = web.RequestKey("caller", str)
SUBMITTED: web.RequestKey[str] = web.RequestKey("submitted", str)  # id of the submitted task, for the log

_CLOSE = {"Connection": "close"}
_SHORTCUTS = {"merkle": "merkle_proof", "range": "range_proof", "addition": "addition"}


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits on the size and arrival time of a request body."""

    max_bytes: int
    timeout_s: float


class TaskHandlers:
    """The endpoints under /api/v1/tasks. Beyond `max_long_polls` concurrent long polls, requests do not wait."""

    def __init__(
        self, network: CoordinatorClient, submission_pool: SubmissionPool, limits: BodyLimits, max_long_polls: int
    ) -> None:
        self._network = network
        self._submission_pool = submission_pool
        self._limits = limits
        self._max_long_polls = max_long_polls
        self._long_polls: set[asyncio.Timeout] = set()
        self._stopping = False

    def routes(self) -> list[web.RouteDef]:
        """Return all endpoints with their handlers."""
        tasks, task = tasks_json.TASKS_PATH, f"{tasks_json.TASKS_PATH}/{{id}}"
        return [
            web.post(tasks, self._submitter(None)),
            *(web.post(f"{tasks}/{name}", self._submitter(circuit)) for name, circuit in _SHORTCUTS.items()),
            web.get(tasks, self.list_tasks, allow_head=False),
            web.get(task, self.get_task, allow_head=False),
            web.delete(task, self.cancel_task),
            web.get(f"{task}/proof", self.get_proof, allow_head=False),
        ]

    def _submitter(self, circuit: str | None) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def submit(request: web.Request) -> web.Response:
            return await self._submit(request, circuit)

        return submit

    async def _submit(self, request: web.Request, circuit: str | None) -> web.Response:
        requests.read_query(requests.NoParameters, _parameters(request))
        caller, key = request[CALLER], read_key(request.headers.getall(HEADER, ()))
        with self._submission_pool.reserve(caller) as reservation:
            body = await read_body(request, self._limits)
            prepared = await reservation.prepare(body, circuit, keyed=key is not None)
        submission = Submission(
            task_id=new_task_id(caller, key),
            circuit=prepared.circuit,
            inputs=prepared.inputs,
            public_inputs=prepared.public_inputs,
            max_retries=prepared.max_retries,
        )
        request[SUBMITTED] = submission.task_id
        accepted = await _call(self._network.submit(submission))
        return web.json_response(
            tasks_json.accepted(accepted, generated_blinding=prepared.generated_blinding),
            status=202,
            headers={"Location": tasks_json.path_of(accepted.task.id)},
        )

    async def list_tasks(self, request: web.Request) -> web.Response:
        """Return one page of tasks, newest first."""
        query = requests.read_query(requests.ListingQuery, _parameters(request))
        page = await _call(
            self._network.page(
                state=None if query.state is None else TaskState(query.state),
                circuit=query.circuit or "",
                size=query.page_size,
                token=query.page_token or "",
            )
        )
        tasks = [tasks_json.summary(task) for task in page.tasks]
        return web.json_response({"tasks": tasks, "next_page_token": page.next_token or None})

    async def get_task(self, request: web.Request) -> web.Response:
        """Return one task; with `wait`, once it has ended or the time has elapsed."""
        return web.json_response(tasks_json.detail(await self._read_task(request)))

    async def get_proof(self, request: web.Request) -> web.Response:
        """Return the proof document of a completed task; `wait` as in `get_task`."""
        task = await self._read_task(request)
        document = task_json.proof_document(task)
        if document is None:
            detail = f"the task is {task.state}; only a completed task has a proof"
            raise ApiProblem(problems.NOT_COMPLETED, detail)
        return web.json_response(document)

    async def cancel_task(self, request: web.Request) -> web.Response:
        """Cancel a task that has not ended."""
        requests.read_query(requests.NoParameters, _parameters(request))
        task_id = requests.read_task_id(request.match_info["id"])
        return web.json_response(tasks_json.detail(await _call(self._network.cancel(task_id))))

    async def _read_task(self, request: web.Request) -> Task:
        task_id = requests.read_task_id(request.match_info["id"])
        wait = requests.read_query(requests.WaitQuery, _parameters(request)).wait
        if wait and len(self._long_polls) < self._max_long_polls and not self._stopping:
            latest = await _call(self._watch(task_id, wait))
            if latest is not None:
                return latest
        return await _call(self._network.get(task_id))

    async def _watch(self, task_id: str, seconds: int) -> Task | None:
        """Return the latest version of the task received within `seconds`; return early at its final state."""
        latest = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as timeout:
                self._long_polls.add(timeout)
                try:
                    async for task in self._network.watch(task_id):
                        latest = task
                finally:
                    self._long_polls.discard(timeout)
        return latest

    async def stop_waiting(self, _: web.Application) -> None:
        """Answer all long polls now with the current state: the gateway is stopping."""
        self._stopping = True
        for timeout in self._long_polls:
            timeout.reschedule(asyncio.get_running_loop().time())


async def read_body(request: web.Request, limits: BodyLimits) -> bytes:
    """Return the body of a request that must be JSON.

    Raises:
        ApiProblem: The media type is unsupported, the body is too large, or it did not arrive in time.
    """
    if "Content-Encoding" in request.headers:
        detail = "Content-Encoding: not supported; send the body unencoded, without this header"
        raise ApiProblem(problems.UNSUPPORTED_MEDIA_TYPE, detail, "Content-Encoding")
    if request.content_type != "application/json":
        raise ApiProblem(problems.UNSUPPORTED_MEDIA_TYPE, "Content-Type: must be application/json", "Content-Type")
    if request.content_length is not None and request.content_length > limits.max_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.max_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        detail = f"body: not received within {limits.timeout_s:g} s; send it faster"
        raise ApiProblem(problems.BODY_TIMEOUT, detail, headers=_CLOSE) from None
    except web.RequestPayloadError:
        detail = "Transfer-Encoding: invalid chunk; send Content-Length or valid chunks"
        raise ApiProblem(problems.INVALID_JSON, detail, headers=_CLOSE) from None
    return bytes(body)


def _too_large(limits: BodyLimits) -> ApiProblem:
    detail = f"body: larger than the limit of {limits.max_bytes} bytes; send a smaller one"
    return ApiProblem(problems.BODY_TOO_LARGE, detail, headers=_CLOSE)


async def _call(call: Awaitable[T]) -> T:
    try:
        return await call
    except ClientError as error:
        raise to_problem(error) from None


def _parameters(request: web.Request) -> dict[str, Sequence[str]]:
    query: MultiMapping[str] = request.query
    return {name: query.getall(name) for name in query}
