"""Every command line of the project runs here: exit status, errors in one line, `--version`, missing extras.

Exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Never

import typer

from zkp.version import DISTRIBUTION, version

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_PACKAGES = ("coordinator", "gateway", "pki", "worker", "zkp")


def _print_version(context: typer.Context, *, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{context.find_root().info_name} {version()}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]


def run(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str] | None,
    *,
    failures: tuple[type[Exception], ...],
    misuse: tuple[type[Exception], ...] = (),
    describe: Callable[[Exception], str] = str,
) -> int:
    """Run a command and return its exit status.

    Args:
        app: The command with its subcommands.
        name: What the user typed; errors of usage and `--version` name it.
        arguments: The command line without the program; None for that of the process.
        failures: Exceptions that are an error in one line and status 1.
        misuse: Exceptions that are an error in one line and status 2.
        describe: Returns the line for such an exception.
    """
    try:
        outcome = app(args=arguments, prog_name=name, standalone_mode=False)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        return fail(_with_hint(error), error.exit_code)
    except misuse as error:
        return fail(describe(error), EXIT_USAGE)
    except failures as error:
        return fail(describe(error), EXIT_FAILED)
    return outcome if isinstance(outcome, int) else 0


def fail(message: str, status: int) -> int:
    """Print an error in one line to standard error and return the exit status."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return status


def launch(target: str, name: str, extra: str) -> Never:
    """Import a command and run it; a library that is missing is an error that names the extra.

    Args:
        target: MODULE:FUNCTION that returns the exit status.
        name: The command, for the error.
        extra: The extra of the distribution that brings what the command imports.
    """
    module, _, function = target.partition(":")
    try:
        command = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _PACKAGES:
            raise
        line = f"{name}: the library {error.name} is not installed; run: pip install '{DISTRIBUTION}[{extra}]'"
        sys.exit(fail(line, EXIT_FAILED))
    sys.exit(command())


def _with_hint(error: typer.TyperException) -> str:
    """Return the message, and where the right usage is described if the arguments could not be parsed."""
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return message if context is None else f"{message} (see `{context.command_path} --help`)"
