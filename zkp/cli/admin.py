"""`zkp admin …`: hand over leadership, trust a worker again, or somebody no more."""

import asyncio
from typing import Annotated

import typer

from zkp.cli import output, revocations, target
from zkp.cli.target import Coordinators, Directory, Identity
from zkp.client.admin import AdminClient
from zkp.localcluster.layout import ADMIN

app = typer.Typer(
    short_help="Hand over leadership, end a quarantine, revoke certificates.",
    help="Example: zkp admin transfer --to coordinator-2\n\nChange the cluster. Needs an admin's certificate.",
)
app.command(short_help="Shut the holders of certificates out.")(revocations.revoke)
app.command(short_help="List the revoked certificates.")(revocations.revoked)


@app.command(short_help="Let another node lead.")
def transfer(
    *,
    to: Annotated[str, typer.Option(metavar="ID", help="The node to lead; by default whichever is ready.")] = "",
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: zkp admin transfer --to coordinator-2

    Hand leadership to another node, as before taking the leader down; no task is lost or delayed by it.
    """
    reach = target.find(coordinators, identity, directory, role=ADMIN)

    async def ask() -> str:
        async with reach.connect() as connection:
            return await AdminClient(connection).transfer_leadership(to)

    output.line(f"{asyncio.run(ask())} leads")


@app.command(short_help="End a worker's quarantine.")
def release(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's id.")],
    *,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: zkp admin release worker-2

    Give tasks again to a worker that was quarantined for a false proof.
    """
    reach = target.find(coordinators, identity, directory, role=ADMIN)

    async def ask() -> None:
        async with reach.connect() as connection:
            await AdminClient(connection).release_worker(worker)

    asyncio.run(ask())
    output.line(f"{worker} is given tasks again")
