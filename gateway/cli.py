"""The command line of a gateway: serve, check a configuration, make an API key."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway import config
from gateway.callers import ApiKeyError, new_key
from gateway.serve import serve
from pki.errors import PkiError
from zkp import commandline
from zkp.client.errors import ClientError
from zkp.commandline import VersionOption
from zkp.daemon import logs, native_stderr
from zkp.daemon.lifecycle import run
from zkp.daemon.settings import SettingsError

_STOP_TIMEOUT_S = 30.0

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration, YAML.")]

app = typer.Typer(
    name="gateway",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Example: gateway --config /etc/zkp/gateway.yaml\n\n"
    "Serves the proving network's HTTPS API to clients. SIGHUP reads certificates and API keys again; "
    "SIGTERM finishes what was begun.",
)


@app.callback(invoke_without_command=True)
def start(context: typer.Context, config_file: ConfigOption = None, *, _version: VersionOption = False) -> int:
    """Serve."""
    if context.invoked_subcommand is not None:
        context.obj = config_file
        return 0
    settings = config.check(_given(config_file), os.environ)
    logs.configure(settings.log_level, node_id=settings.id, stream=native_stderr.capture())
    return run(lambda life: serve(settings, life), stop_timeout=_STOP_TIMEOUT_S)


@app.command(short_help="Check a configuration and the files it names; serve nothing.")
def check(context: typer.Context, config_file: ConfigOption = None) -> None:
    """Example: gateway check --config /etc/zkp/gateway.yaml

    Says what is wrong with a configuration, in one line, or that it is good. Listens nowhere.
    """
    file = _given(config_file or context.obj)
    settings = config.check(file, os.environ)
    typer.echo(f"{file}: good; {settings.id} would serve on {settings.bind}")


@app.command(name="new-api-key", short_help="Make an API key.")
def new_api_key(name: Annotated[str, typer.Argument(metavar="NAME", help="name of the key's owner")]) -> None:
    """Example: gateway new-api-key billing-service

    Prints a new key, which is shown this once, and the line to add to the file of API keys. Send SIGHUP to
    the gateways afterwards.
    """
    made = new_key(name)
    typer.echo(f"key for {name} (not shown again): {made.key}")
    typer.echo(f"line for api_keys_file:  {made.line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return commandline.run(app, "gateway", arguments, failures=(ApiKeyError, ClientError, PkiError, SettingsError))


def _given(file: Path | None) -> Path:
    if file is None:
        raise typer.BadParameter("missing: give --config FILE", param_hint="--config")
    return file
