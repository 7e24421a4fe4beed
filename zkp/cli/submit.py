"""`zkp submit …`: submit tasks, and optionally wait for their proofs."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zkp.cli import files, output, requests, task_output
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity, find_cluster
from zkp.client.errors import ClientError
from zkp.client.model import Accepted, Submission, Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.localcluster.layout import CLIENT, DEFAULT_DIRECTORY
from zkp.protocol.limits import MAX_RETRIES

app = typer.Typer(
    no_args_is_help=False,
    short_help="Submit tasks.",
    help="Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json\n\n"
    "Submit tasks to the network. Every user of this machine can read the arguments of a running program: give "
    "private values in a file, through a pipe (--inputs -) or in the environment.",
)

_MAX_WATCHES = 32
_PROGRESS_MIN = 100  # submissions from which on progress is shown

Count = Annotated[int, typer.Option(min=1, max=100_000, help="Number of tasks to submit.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the proofs and show progress.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="Write the proof to this file, with --count to this directory; implies --wait."
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", help="JSON object with the circuit's fields; - for standard input."),
]
Id = Annotated[
    str | None,
    typer.Option(help="Task id, an idempotency key: a repeated submission is the same task."),
]
Retries = Annotated[
    int | None, typer.Option(min=0, max=MAX_RETRIES, help="Number of retries after a lost or failed attempt.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What to do after the submission."""

    wait: bool
    out: Path | None
    as_json: bool

    @property
    def waits(self) -> bool:
        """Whether to wait for the proofs."""
        return self.wait or self.out is not None


@app.command(short_help="Prove that an entry is on a list.")
def merkle(
    *,
    leaves: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-", help="List: one number per line, or the first column of a CSV; - for standard input."
        ),
    ] = None,
    heading: Annotated[
        bool | None,
        typer.Option(
            "--heading/--no-heading",
            help="Whether the first line is a heading; default: if it cannot be meant as a number.",
        ),
    ] = None,
    index: Annotated[
        int | None,
        typer.Option(
            envvar="ZKP_INDEX", help="Position of the entry, from 0; private. With --count, of the first entry."
        ),
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
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json

    Prove that an entry is on the list with this Merkle root, without revealing which. With --count N, prove the
    entries INDEX, INDEX+1, …, wrapping around the end of the list.
    """
    if leaves is not None and leaves == inputs == files.STANDARD_INPUT:
        raise UsageProblem("--leaves and --inputs: both read standard input; give a file for one of them")
    if leaves is None and heading is not None:
        raise UsageProblem("--heading and --no-heading: need --leaves; give it too")
    options = {"leaves": None if leaves is None else requests.read_leaves(leaves, heading), "leaf_index": index}
    request = requests.merge(requests.read_inputs(inputs), options)
    submissions = _prepare("merkle_proof", requests.merkle(request, count), task_id, count, max_retries)
    target = find_cluster(coordinators, identity, directory, role=CLIENT)
    _submit(target, submissions, SubmitOptions(wait, out, as_json))


@app.command(name="range", short_help="Prove that a number is in a range.")
def in_range(
    *,
    value: Annotated[str | None, typer.Option(envvar="ZKP_VALUE", help="Number; private.")] = None,
    low: Annotated[str | None, typer.Option("--min", help="Smallest number allowed.")] = None,
    high: Annotated[str | None, typer.Option("--max", help="Largest number allowed.")] = None,
    blinding: Annotated[
        str | None,
        typer.Option(envvar="ZKP_BLINDING", help="Blinding of the commitment; private. Default: random."),
    ] = None,
    blinding_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the blinding, which opens the commitment, to this new file (0600)."),
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
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: echo '{"value": 42}' | zkp submit range --inputs - --min 18 --max 120 --wait --out proof.json.

    Prove that the number in a commitment lies in [MIN, MAX]. All three are below 2^64.
    """
    options = {"value": value, "min": low, "max": high, "blinding": blinding}
    request = requests.merge(requests.read_inputs(inputs), options)
    if task_id is not None and request.get("blinding") is None:
        raise UsageProblem(
            "--task-id: needs --blinding, since a random one makes a different submission; give it too"
        )
    wanted = [requests.with_blinding(one) for one in requests.repeated(request, count)]
    submissions = _prepare("range_proof", wanted, task_id, count, max_retries)
    if blinding_out is not None:
        requests.write_blindings(wanted, blinding_out)
    target = find_cluster(coordinators, identity, directory, role=CLIENT)
    _submit(target, submissions, SubmitOptions(wait, out, as_json))


@app.command(short_help="Prove that two numbers have a sum.")
def addition(
    *,
    a: Annotated[str | None, typer.Option(envvar="ZKP_A", help="First number; private.")] = None,
    b: Annotated[str | None, typer.Option(envvar="ZKP_B", help="Second number; private.")] = None,
    inputs: Inputs = None,
    count: Count = 1,
    wait: Wait = False,
    out: Out = None,
    task_id: Id = None,
    max_retries: Retries = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp submit addition --a 20 --b 22 --wait

    Prove the knowledge of two numbers below 2^64 with the published sum.
    """
    request = requests.merge(requests.read_inputs(inputs), {"a": a, "b": b})
    submissions = _prepare("addition", requests.repeated(request, count), task_id, count, max_retries)
    target = find_cluster(coordinators, identity, directory, role=CLIENT)
    _submit(target, submissions, SubmitOptions(wait, out, as_json))


def _prepare(
    circuit: str,
    wanted: Iterable[requests.Request],
    task_id: str | None,
    count: int,
    max_retries: int | None,
) -> list[Submission]:
    """Prepare all submissions, so that nothing is sent if one is invalid."""
    ids = requests.task_ids(task_id, count)
    return [
        requests.submission(own_id, circuit, request, max_retries)
        for own_id, request in zip(ids, wanted, strict=False)
    ]


def _submit(target: ClusterTarget, submissions: Sequence[Submission], options: SubmitOptions) -> None:
    tasks, refusals = asyncio.run(_run(target, submissions, options))
    if options.waits:
        _save_proofs(tasks, len(submissions), options.out)
        task_output.show(tasks, as_json=options.as_json)
    elif options.as_json:
        output.as_json([{"id": task.id, "state": task.state.value} for task in tasks])
    else:
        for task in tasks:
            output.line(task.id)
    unproved = [task for task in tasks if options.waits and task.state is not TaskState.COMPLETED]
    if refusals and len(submissions) == 1:
        raise refusals[0]
    if refusals:
        raise CommandFailed(
            f"{len(refusals)} of {len(submissions)} submissions were rejected; the first: {refusals[0]}"
        )
    if unproved:
        raise CommandFailed(
            f"{len(unproved)} of {len(submissions)} tasks were not completed; "
            f"the first: {task_output.change(unproved[0])}"
        )


def _save_proofs(tasks: Sequence[Task], submitted: int, out: Path | None) -> None:
    if out is None:
        return
    if submitted > 1:
        written = task_output.write_proofs(tasks, out)
        output.note(f"{len(written)} proofs written to {out}")
    elif tasks and tasks[0].state is TaskState.COMPLETED:
        task_output.write_proof(tasks[0], out)
        output.note(f"proof written to {out}")


async def _run(
    target: ClusterTarget, submissions: Sequence[Submission], options: SubmitOptions
) -> tuple[list[Task], list[ClientError]]:
    async with target.connect() as connection:
        client = TaskClient(connection)
        accepted: list[Task] = []
        refusals: list[ClientError] = []
        with output.progress("submitted", len(submissions), shown=len(submissions) >= _PROGRESS_MIN) as display:
            async for outcome in _outcomes(client, submissions):
                if isinstance(outcome, Accepted):
                    accepted.append(outcome.task)
                else:
                    refusals.append(outcome)
                display.done(len(accepted) + len(refusals))
        if not options.waits:
            return accepted, refusals
        with output.progress("proved", len(accepted)) as display:
            done = []
            async for task in finished(client, [task.id for task in accepted]):
                done.append(task)
                display.done(len(done))
        positions = {task.id: position for position, task in enumerate(accepted)}
        return sorted(done, key=lambda task: positions[task.id]), refusals


async def _outcomes(client: TaskClient, submissions: Sequence[Submission]) -> AsyncIterator[Accepted | ClientError]:
    """Yield the outcome of each submission, in order."""
    if len(submissions) > 1:
        async for _, outcome in client.submit_many(submissions):
            yield outcome
        return
    try:  # a stream is not worth its cost for one submission
        yield await client.submit(submissions[0])
    except ClientError as error:
        yield error


async def finished(client: TaskClient, ids: Sequence[str]) -> AsyncIterator[Task]:
    """Yield each task in its final state as soon as it ends."""
    slots = asyncio.Semaphore(_MAX_WATCHES)

    async def wait(task_id: str) -> Task:
        async with slots:
            return await client.wait(task_id)

    waiting = [asyncio.create_task(wait(task_id)) for task_id in ids]
    try:
        for next_done in asyncio.as_completed(waiting):
            yield await next_done
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
