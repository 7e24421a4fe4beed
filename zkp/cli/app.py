"""The command's shape, and the one place where errors become a line and an exit status."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from pki.errors import PkiError
from zkp.cli import admin, circuits, local, status, submit, tasks, trace, verify
from zkp.cli.errors import CommandFailed
from zkp.client.errors import ClientError, InvalidSubmission
from zkp.localcluster.errors import LocalClusterError
from zkp.proofs import InputError, ProofsError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_ORDER = ("submit", "watch", "get", "list", "cancel", "trace", "verify", "status", "local", "circuits", "admin")


class _Ordered(TyperGroup):
    """Lists the commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - a private type of typer's
        return [name for name in _ORDER if name in self.commands]


app = typer.Typer(
    name="zkp",
    cls=_Ordered,
    add_completion=False,
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


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted."""
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    try:
        outcome = app(args=arguments, prog_name="zkp", standalone_mode=False)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.TyperException as problem:
        return _fail(_with_hint(problem), problem.exit_code)
    except InputError as error:  # what was asked for on the command line cannot be asked for
        return _fail(str(error), EXIT_USAGE)
    except (ClientError, CommandFailed, LocalClusterError, PkiError, ProofsError, OSError) as error:
        return _fail(_sentence(error), EXIT_FAILED)
    return outcome if isinstance(outcome, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, InvalidSubmission) and error.field:
        return f"{error.field}: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _with_hint(problem: typer.TyperException) -> str:
    """The message, and where to read on when the arguments could not be parsed."""
    context = getattr(problem, "ctx", None)
    if context is None:
        return problem.format_message()
    return f"{problem.format_message().rstrip('.')} (see `{context.command_path} --help`)"


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n")
    return status
