"""What the task pages do: a request in, the network asked, an answer out; refusals raised as `ApiProblem`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from multidict import MultiMapping

from gateway import problems, requests, tasks_json
from gateway.idempotency import HEADER, new_task_id, read_key
from gateway.network import CoordinatorClient, refusal
from gateway.problems import ApiProblem
from gateway.submission_pool import SubmissionPool
from zkp.client import task_json
from zkp.client.errors import ClientError
from zkp.client.model import Submission, Task, TaskState

T = TypeVar("T")

CALLER: web.RequestKey[str] = web.RequestKey("caller", str)
SUBMITTED: web.RequestKey[str] = web.RequestKey("submitted", str)  # the id of the task, for the log

_CLOSE = {"Connection": "close"}
_SHORTCUTS = {"merkle": "merkle_proof", "range": "range_proof", "addition": "addition"}


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much a body may hold, and how long it may take to arrive."""

    max_bytes: int
    timeout_s: float


class TaskHandlers:
    """The pages under /api/v1/tasks. `max_waiting` long polls at a time; beyond, answers come at once."""

    def __init__(
        self, network: CoordinatorClient, preparation: SubmissionPool, limits: BodyLimits, max_waiting: int
    ) -> None:
        self._network = network
        self._preparation = preparation
        self._limits = limits
        self._max_waiting = max_waiting
        self._waits: set[asyncio.Timeout] = set()
        self._stopping = False

    def routes(self) -> list[web.RouteDef]:
        """Every page with its handler."""
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
        requests.read_query(requests.Nothing, _parameters(request))
        caller, key = request[CALLER], read_key(request.headers.getall(HEADER, ()))
        with self._preparation.place(caller) as place:
            body = await read_body(request, self._limits)
            prepared = await place.submission(body, circuit, keyed=key is not None)
        submission = Submission(
            task_id=new_task_id(caller, key),
            circuit=prepared.circuit,
            inputs=prepared.inputs,
            public_inputs=prepared.public_inputs,
            max_retries=prepared.max_retries,
        )
        request[SUBMITTED] = submission.task_id
        accepted = await _answer(self._network.submit(submission))
        return web.json_response(
            tasks_json.accepted(accepted, drawn_blinding=prepared.drawn_blinding),
            status=202,
            headers={"Location": tasks_json.path_of(accepted.task.id)},
        )

    async def list_tasks(self, request: web.Request) -> web.Response:
        """One page of tasks, newest first."""
        wanted = requests.read_query(requests.ListingQuery, _parameters(request))
        page = await _answer(
            self._network.page(
                state=None if wanted.state is None else TaskState(wanted.state),
                circuit=wanted.circuit or "",
                size=wanted.page_size,
                token=wanted.page_token or "",
            )
        )
        tasks = [tasks_json.summary(task) for task in page.tasks]
        return web.json_response({"tasks": tasks, "next_page_token": page.next_token or None})

    async def get_task(self, request: web.Request) -> web.Response:
        """One task; with `wait`, when it has ended or the time is over."""
        return web.json_response(tasks_json.detail(await self._task(request)))

    async def get_proof(self, request: web.Request) -> web.Response:
        """The proof document of a completed task; with `wait` as above."""
        task = await self._task(request)
        document = task_json.proof_document(task)
        if document is None:
            detail = f"the task is {task.state}; only a completed task has a proof"
            raise ApiProblem(problems.NOT_COMPLETED, detail)
        return web.json_response(document)

    async def cancel_task(self, request: web.Request) -> web.Response:
        """Cancel a task that has not ended."""
        requests.read_query(requests.Nothing, _parameters(request))
        task_id = requests.read_task_id(request.match_info["id"])
        return web.json_response(tasks_json.detail(await _answer(self._network.cancel(task_id))))

    async def _task(self, request: web.Request) -> Task:
        task_id = requests.read_task_id(request.match_info["id"])
        wait = requests.read_query(requests.Wait, _parameters(request)).wait
        if wait and len(self._waits) < self._max_waiting and not self._stopping:
            latest = await _answer(self._newest_within(task_id, wait))
            if latest is not None:
                return latest
        return await _answer(self._network.get(task_id))

    async def _newest_within(self, task_id: str, seconds: int) -> Task | None:
        """The task's last version within `seconds`: the final one if it comes to that."""
        latest = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as patience:
                self._waits.add(patience)
                try:
                    async for task in self._network.watch(task_id):
                        latest = task
                finally:
                    self._waits.discard(patience)
        return latest

    async def stop_waiting(self, _: web.Application) -> None:
        """Answer every long poll now, with what is known: the gateway is stopping."""
        self._stopping = True
        for patience in self._waits:
            patience.reschedule(asyncio.get_running_loop().time())


async def read_body(request: web.Request, limits: BodyLimits) -> bytes:
    """The body of a request that must be JSON; raises a `ApiProblem` as soon as it cannot be."""
    if "Content-Encoding" in request.headers:
        detail = "Content-Encoding: is not supported; send the body as it is, without this header"
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
        detail = f"the body did not arrive within {limits.timeout_s:g} s; send it faster"
        raise ApiProblem(problems.BODY_TIMEOUT, detail, headers=_CLOSE) from None
    except web.RequestPayloadError:
        detail = "malformed transfer encoding of the body; send Content-Length or correct chunks"
        raise ApiProblem(problems.INVALID_JSON, detail, headers=_CLOSE) from None
    return bytes(body)


def _too_large(limits: BodyLimits) -> ApiProblem:
    detail = f"the body is larger than {limits.max_bytes} bytes, which is the limit"
    return ApiProblem(problems.BODY_TOO_LARGE, detail, headers=_CLOSE)


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except ClientError as error:
        raise refusal(error) from None


def _parameters(request: web.Request) -> dict[str, Sequence[str]]:
    query: MultiMapping[str] = request.query
    return {name: query.getall(name) for name in query}
