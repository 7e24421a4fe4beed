"""`zkp admin …`: leadership transfer, quarantine release, certificate revocation."""

import asyncio
from typing import Annotated

import typer

from zkp.cli import output, revocations
from zkp.cli.target import Coordinators, Directory, Identity, find_cluster
from zkp.client.admin import AdminClient
from zkp.localcluster.layout import ADMIN, DEFAULT_DIRECTORY

app = typer.Typer(
    short_help="Transfer leadership, release workers, revoke certificates.",
    help="Example: zkp admin transfer --to coordinator-2\n\nAdminister the cluster. Requires an admin's certificate.",
)
app.command(short_help="Revoke certificates.")(revocations.revoke)
app.command(short_help="List revoked certificates.")(revocations.revoked)


@app.command(short_help="Transfer leadership to another node.")
def transfer(
    *,
    to: Annotated[
        str, typer.Option(metavar="ID", help="Id of the new leader; default: the most up-to-date follower.")
    ] = "",
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp admin transfer --to coordinator-2

    Transfer leadership to another node, for example before stopping the leader. No task is lost or delayed.
    """
    target = find_cluster(coordinators, identity, directory, role=ADMIN)

    async def ask() -> str:
        async with target.connect() as connection:
            return await AdminClient(connection).transfer_leadership(to)

    output.line(f"new leader: {asyncio.run(ask())}")


@app.command(short_help="End a worker's quarantine.")
def release(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")],
    *,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp admin release worker-2

    End the quarantine of a worker that sent an invalid proof; it is assigned tasks again.
    """
    target = find_cluster(coordinators, identity, directory, role=ADMIN)

    async def ask() -> None:
        async with target.connect() as connection:
            await AdminClient(connection).release_worker(worker)

    asyncio.run(ask())
    output.line(f"{worker}: quarantine ended")
