"""Load on the stream of submissions, and what was acknowledged on it held against what the cluster still knows."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network
from zkp.client.model import Submission
from zkp.client.pipeline import SubmissionPipeline
from zkp.client.tasks import TaskClient
from zkp.proofs import circuits

_RUNS = itertools.count(1)
_POLL_S = 0.01
_PAUSE_S = 0.01  # of each submitter: leaves the machine some time for what the tests are about


class Stream:
    """Submits, some tasks unanswered at any time; `acknowledged` are the ids that were answered."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self._run = next(_RUNS)
        self._numbers = itertools.count(1)
        self._submitters: list[asyncio.Task[None]] = []
        prepared = circuits.prepare("addition", {"a": 20, "b": 22})
        self._template = Submission("", "addition", prepared.inputs, prepared.public_inputs)

    async def more(self, count: int) -> None:
        """Wait until that many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while len(self.acknowledged) < wanted:
                self.check()
                await asyncio.sleep(_POLL_S)

    def check(self) -> None:
        """Raise what a submitter failed with, if one did."""
        for submitter in self._submitters:
            if submitter.done():
                submitter.result()

    def begin(self, pipeline: SubmissionPipeline, outstanding: int) -> None:
        self._submitters = [asyncio.create_task(self._submit(pipeline)) for _ in range(outstanding)]

    async def end(self) -> None:
        for submitter in self._submitters:
            submitter.cancel()
        await asyncio.gather(*self._submitters, return_exceptions=True)

    async def _submit(self, pipeline: SubmissionPipeline) -> None:
        while True:
            task_id = f"stream-{self._run}-{next(self._numbers)}"
            await pipeline.submit(replace(self._template, task_id=task_id))
            self.acknowledged.append(task_id)
            await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def streaming(client: TaskClient, outstanding: int = 8) -> AsyncIterator[Stream]:
    """Load for as long as the context lasts; at most `outstanding` submissions wait for their answers at a time."""
    stream = Stream()
    async with client.pipeline(window=outstanding) as pipeline:
        stream.begin(pipeline, outstanding)
        try:
            yield stream
            stream.check()
        finally:
            await stream.end()


async def lost(network: Network, acknowledged: Iterable[str]) -> list[str]:
    """Those of the ids that the replicated state does not hold. The record must be away, or it would answer."""
    async with network.client() as client, asyncio.timeout(WAIT_TIMEOUT_S):
        held = {task.id async for task in client.list()}
    return [task_id for task_id in acknowledged if task_id not in held]
