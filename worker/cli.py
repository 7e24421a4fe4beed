"""The command line of a worker: prove, check a configuration."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from worker import config
from worker.service import proving_keys, serve
from zkp import commandline
from zkp.commandline import VersionOption
from zkp.daemon import logs, native_stderr
from zkp.daemon.errors import DaemonError
from zkp.daemon.lifecycle import run
from zkp.daemon.settings import SettingsError

_STOP_MARGIN_S = 15.0  # after the drain: release tasks, stop processes

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML).")
]

app = typer.Typer(
    name="worker",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="\b\nExample:\n  worker --config /etc/zkp/worker.yaml\n\n"
    "Prove tasks for the leading coordinator and report each proof once. SIGTERM finishes or releases "
    "running tasks; SIGHUP reloads the certificate.",
)


@app.callback(invoke_without_command=True)
def start(context: typer.Context, file: ConfigOption = None, *, _version: VersionOption = False) -> int:
    """Run the worker until SIGTERM."""
    if context.invoked_subcommand is not None:
        context.obj = file
        return 0
    settings = config.check(_given(file), os.environ)
    logs.configure(settings.log_level, node_id=settings.id, stream=native_stderr.capture())
    return run(lambda life: serve(settings, life), stop_timeout=settings.drain_timeout + _STOP_MARGIN_S)


@app.command(short_help="Validate a configuration file and the files it names.")
def check(context: typer.Context, file: ConfigOption = None) -> int:
    """\b
    Example:
      worker check --config /etc/zkp/worker.yaml

    Validate a configuration and the files it names. Does not listen and changes nothing.
    """
    settings = config.check(_given(file or context.obj), os.environ)
    circuits = ", ".join(proving_keys(settings.keys_dir))
    sys.stdout.write(f"{settings.id}: configuration is valid; can prove {circuits}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return commandline.run(app, "worker", arguments, failures=(SettingsError, DaemonError))


def _given(file: Path | None) -> Path:
    if file is None:
        raise typer.BadParameter("missing; give --config FILE", param_hint="--config")
    return file
