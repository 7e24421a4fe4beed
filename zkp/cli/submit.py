"""`zkp submit …`: ask the network for proofs, and wait for them if told to."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zkp.cli import files, output, requests, target, task_output
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity
from zkp.client.errors import ClientError
from zkp.client.model import Accepted, Submission, Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.localcluster.layout import CLIENT
from zkp.protocol.limits import MAX_RETRIES

app = typer.Typer(
    no_args_is_help=False,
    short_help="Ask for proofs.",
    help="Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json\n\n"
    "Ask the network for proofs. Arguments of a running program can be read by every user of this machine: "
    "give private values in a file, through a pipe (--inputs -) or in the environment.",
)

_WATCHED_AT_ONCE = 32
_MANY = 100  # submissions that take long enough to be shown as they go

Count = Annotated[int, typer.Option(min=1, max=100_000, help="How many tasks to submit.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the proofs, with a progress bar.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Write the proof here (implies --wait); with --count, a directory."),
]
Inputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", help="JSON object with the circuit's fields; - reads standard input."),
]
Id = Annotated[
    str | None,
    typer.Option(help="Task id of your choice: sent again, the same submission is the same task."),
]
Retries = Annotated[
    int | None, typer.Option(min=0, max=MAX_RETRIES, help="How often a lost or failed attempt is tried again.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What to do with the submissions besides sending them."""

    wait: bool
    out: Path | None
    as_json: bool

    @property
    def waits(self) -> bool:
        return self.wait or self.out is not None


@app.command(short_help="An entry is on a list, without saying which.")
def merkle(
    *,
    leaves: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-", help="The list: one number a line, or a CSV's first column; - reads standard input."
        ),
    ] = None,
    heading: Annotated[
        bool | None,
        typer.Option(
            "--heading/--no-heading",
            help="Whether the list's first line is a heading; by default only if it cannot be meant as a number.",
        ),
    ] = None,
    index: Annotated[
        int | None,
        typer.Option(envvar="ZKP_INDEX", help="Position of the entry, from 0; private. With --count: of the first."),
    ] = None,
    inputs: Inputs = None,
    count: Count = 1,
    wait: Wait = False,
    out: Out = None,
    task_id: Id = None,
    max_retries: Retries = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json

    Prove that an entry is on the list with this Merkle root, without saying which. With --count N the
    entries INDEX, INDEX+1, … are proved, around the end of the list.
    """
    if leaves is not None and leaves == inputs == files.STANDARD_INPUT:
        raise UsageProblem("--leaves and --inputs both name standard input: give a file for one of them")
    if leaves is None and heading is not None:
        raise UsageProblem("--heading and --no-heading are for the file of --leaves: give that too")
    options = {"leaves": None if leaves is None else requests.read_leaves(leaves, heading), "leaf_index": index}
    request = requests.merge(requests.read_inputs(inputs), options)
    submissions = _prepare("merkle_proof", requests.merkle(request, count), task_id, count, max_retries)
    reach = target.find(coordinators, identity, directory, role=CLIENT)
    _submit(reach, submissions, SubmitOptions(wait, out, as_json))


@app.command(name="range", short_help="A committed number lies in [MIN, MAX].")
def in_range(
    *,
    value: Annotated[str | None, typer.Option(envvar="ZKP_VALUE", help="The number; private.")] = None,
    low: Annotated[str | None, typer.Option("--min", help="The smallest number allowed.")] = None,
    high: Annotated[str | None, typer.Option("--max", help="The largest number allowed.")] = None,
    blinding: Annotated[
        str | None,
        typer.Option(envvar="ZKP_BLINDING", help="Blinds the commitment; private. Drawn at random by default."),
    ] = None,
    blinding_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for the blinding (0600); needed to open the commitment."),
    ] = None,
    inputs: Inputs = None,
    count: Count = 1,
    wait: Wait = False,
    out: Out = None,
    task_id: Id = None,
    max_retries: Retries = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: echo '{"value": 42}' | zkp submit range --inputs - --min 18 --max 120 --wait --out proof.json

    Prove that the number behind a commitment lies in [MIN, MAX], all below 2^64.
    """
    options = {"value": value, "min": low, "max": high, "blinding": blinding}
    request = requests.merge(requests.read_inputs(inputs), options)
    if task_id is not None and request.get("blinding") is None:
        raise UsageProblem("--task-id needs --blinding: with another blinding it would be another submission")
    wanted = [requests.with_blinding(one) for one in requests.repeated(request, count)]
    submissions = _prepare("range_proof", wanted, task_id, count, max_retries)
    if blinding_out is not None:
        requests.keep_blindings(wanted, blinding_out)
    reach = target.find(coordinators, identity, directory, role=CLIENT)
    _submit(reach, submissions, SubmitOptions(wait, out, as_json))


@app.command(short_help="Two numbers have this sum.")
def addition(
    *,
    a: Annotated[str | None, typer.Option(envvar="ZKP_A", help="The first number; private.")] = None,
    b: Annotated[str | None, typer.Option(envvar="ZKP_B", help="The second number; private.")] = None,
    inputs: Inputs = None,
    count: Count = 1,
    wait: Wait = False,
    out: Out = None,
    task_id: Id = None,
    max_retries: Retries = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: zkp submit addition --a 20 --b 22 --wait

    Prove that you know two numbers below 2^64 with the sum that is published.
    """
    request = requests.merge(requests.read_inputs(inputs), {"a": a, "b": b})
    submissions = _prepare("addition", requests.repeated(request, count), task_id, count, max_retries)
    reach = target.find(coordinators, identity, directory, role=CLIENT)
    _submit(reach, submissions, SubmitOptions(wait, out, as_json))


def _prepare(
    circuit: str,
    wanted: Iterable[requests.Request],
    task_id: str | None,
    count: int,
    max_retries: int | None,
) -> list[Submission]:
    """Everything is checked before anything is sent."""
    ids = requests.task_ids(task_id, count)
    return [
        requests.submission(own_id, circuit, request, max_retries)
        for own_id, request in zip(ids, wanted, strict=False)
    ]


def _submit(reach: ClusterTarget, submissions: Sequence[Submission], order: SubmitOptions) -> None:
    tasks, refusals = asyncio.run(_run(reach, submissions, order))
    if order.waits:
        _keep(tasks, len(submissions), order.out)
        task_output.show(tasks, as_json=order.as_json)
    elif order.as_json:
        output.as_json([{"id": task.id, "state": task.state.value} for task in tasks])
    else:
        for task in tasks:
            output.line(task.id)
    unproved = [task for task in tasks if order.waits and task.state is not TaskState.COMPLETED]
    if refusals and len(submissions) == 1:
        raise refusals[0]
    if refusals:
        raise CommandFailed(f"{len(refusals)} of {len(submissions)} were refused; the first: {refusals[0]}")
    if unproved:
        raise CommandFailed(
            f"{len(unproved)} of {len(submissions)} were not proved; {task_output.change(unproved[0])}"
        )


def _keep(tasks: Sequence[Task], submitted: int, out: Path | None) -> None:
    if out is None:
        return
    if submitted > 1:
        written = task_output.write_proofs(tasks, out)
        output.note(f"{len(written)} proofs written to {out}")
    elif tasks and tasks[0].state is TaskState.COMPLETED:
        task_output.write_proof(tasks[0], out)
        output.note(f"proof written to {out}")


async def _run(
    reach: ClusterTarget, submissions: Sequence[Submission], order: SubmitOptions
) -> tuple[list[Task], list[ClientError]]:
    async with reach.connect() as connection:
        client = TaskClient(connection)
        accepted: list[Task] = []
        refusals: list[ClientError] = []
        with output.progress("submitted", len(submissions), shown=len(submissions) >= _MANY) as display:
            async for outcome in _outcomes(client, submissions):
                if isinstance(outcome, Accepted):
                    accepted.append(outcome.task)
                else:
                    refusals.append(outcome)
                display.done(len(accepted) + len(refusals))
        if not order.waits:
            return accepted, refusals
        with output.progress("proved", len(accepted)) as display:
            done = []
            async for task in finished(client, [task.id for task in accepted]):
                done.append(task)
                display.done(len(done))
        places = {task.id: place for place, task in enumerate(accepted)}
        return sorted(done, key=lambda task: places[task.id]), refusals


async def _outcomes(client: TaskClient, submissions: Sequence[Submission]) -> AsyncIterator[Accepted | ClientError]:
    """What became of each, in order."""
    if len(submissions) > 1:
        async for _, outcome in client.submit_many(submissions):
            yield outcome
        return
    try:  # a stream does not pay for one
        yield await client.submit(submissions[0])
    except ClientError as error:
        yield error


async def finished(client: TaskClient, ids: Sequence[str]) -> AsyncIterator[Task]:
    """The tasks in their final state, each as soon as it ends."""
    turn = asyncio.Semaphore(_WATCHED_AT_ONCE)

    async def wait(task_id: str) -> Task:
        async with turn:
            return await client.wait(task_id)

    waiting = [asyncio.create_task(wait(task_id)) for task_id in ids]
    try:
        for next_done in asyncio.as_completed(waiting):
            yield await next_done
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
