"""The `zkp` command: its subcommands, and errors as one line."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from pki.errors import PkiError
from zkp import commandline
from zkp.cli import admin, circuits, local, status, submit, tasks, trace, verify
from zkp.cli.errors import CommandFailed
from zkp.client.errors import ClientError, InvalidSubmission
from zkp.commandline import VersionOption
from zkp.localcluster.errors import LocalClusterError
from zkp.proofs import InputError, ProofsError

_ORDER = ("submit", "watch", "get", "list", "cancel", "trace", "verify", "status", "local", "circuits", "admin")


class _Ordered(TyperGroup):
    """Lists the commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - a private type of typer's
        return [name for name in _ORDER if name in self.commands]


app = typer.Typer(
    name="zkp",
    cls=_Ordered,
    pretty_exceptions_enable=False,
    help="Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json\n\n"
    "Ask a network for zero-knowledge proofs, check them, look after the network, or run one on this machine. "
    "The cluster is named by options, by ZKP_COORDINATORS and ZKP_IDENTITY, or is the local one.",
)
app.add_typer(submit.app, name="submit")
app.command(short_help="Follow a task to its end.")(tasks.watch)
app.command(short_help="Show a task, keep its proof.")(tasks.get)
app.command(name="list", short_help="List tasks.")(tasks.list_tasks)
app.command(short_help="Cancel a task.")(tasks.cancel)
app.command(short_help="Show a task's life on all nodes.")(trace.trace)
app.command(short_help="Check proofs; needs no cluster.")(verify.verify)
app.command(short_help="Show nodes, workers and tasks.")(status.status)
app.add_typer(admin.app, name="admin")
app.add_typer(circuits.app, name="circuits")
app.add_typer(local.app, name="local")


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Take the options of every command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    return commandline.run(
        app,
        "zkp",
        arguments,
        failures=(ClientError, CommandFailed, LocalClusterError, PkiError, ProofsError, OSError),
        misuse=(InputError,),  # a request that the command line cannot express
        describe=_sentence,
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, InvalidSubmission) and error.field:
        return f"{error.field}: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
