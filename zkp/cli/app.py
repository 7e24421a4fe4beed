"""The `zkp` command: its subcommands, and its errors as one line each."""

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
    """Command group that lists its commands in order of use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - a private type of typer's
        return [name for name in _ORDER if name in self.commands]


app = typer.Typer(
    name="zkp",
    cls=_Ordered,
    pretty_exceptions_enable=False,
    help="Example: zkp submit merkle --leaves examples/allowlist.csv --index 17 --wait --out proof.json\n\n"
    "Submit tasks for zero-knowledge proofs, verify proofs, administer a cluster, or run one on this machine. "
    "The cluster is given by options or by ZKP_COORDINATORS and ZKP_IDENTITY; the default is the local cluster.",
)
app.add_typer(submit.app, name="submit")
app.command(short_help="Follow a task until it ends.")(tasks.watch)
app.command(short_help="Show a task and save its proof.")(tasks.get)
app.command(name="list", short_help="List tasks.")(tasks.list_tasks)
app.command(short_help="Cancel a task.")(tasks.cancel)
app.command(short_help="Show a task's timeline across all nodes.")(trace.trace)
app.command(short_help="Verify proofs; needs no cluster.")(verify.verify)
app.command(short_help="Show nodes, workers and tasks.")(status.status)
app.add_typer(admin.app, name="admin")
app.add_typer(circuits.app, name="circuits")
app.add_typer(local.app, name="local")


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Handle the options of the `zkp` command itself."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    return commandline.run(
        app,
        "zkp",
        arguments,
        failures=(ClientError, CommandFailed, LocalClusterError, PkiError, ProofsError, OSError),
        misuse=(InputError,),  # the request is invalid
        describe=_describe,
    )


def _describe(error: Exception) -> str:
    if isinstance(error, InvalidSubmission) and error.field:
        return f"{error.field}: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
