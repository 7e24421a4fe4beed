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

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML).")
]

app = typer.Typer(
    name="gateway",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Example: gateway --config /etc/zkp/gateway.yaml\n\n"
    "Serve the proving network's HTTPS API to clients. SIGHUP reloads certificates and API keys; "
    "SIGTERM finishes running requests and exits.",
)


@app.callback(invoke_without_command=True)
def start(context: typer.Context, config_file: ConfigOption = None, *, _version: VersionOption = False) -> int:
    """Run the gateway until SIGTERM."""
    if context.invoked_subcommand is not None:
        context.obj = config_file
        return 0
    settings = config.check(_given(config_file), os.environ)
    logs.configure(settings.log_level, node_id=settings.id, stream=native_stderr.capture())
    return run(lambda life: serve(settings, life), stop_timeout=_STOP_TIMEOUT_S)


@app.command(short_help="Validate a configuration file and the files it names.")
def check(context: typer.Context, config_file: ConfigOption = None) -> None:
    """Example: gateway check --config /etc/zkp/gateway.yaml

    Validate a configuration and the files it names; print the first problem, or a confirmation. Does not listen.
    """
    file = _given(config_file or context.obj)
    settings = config.check(file, os.environ)
    typer.echo(f"{file}: valid; {settings.id} would serve on {settings.bind}")


@app.command(name="new-api-key", short_help="Generate an API key.")
def new_api_key(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's holder.")]) -> None:
    """Example: gateway new-api-key billing-service

    Print a new key and the line to add to api_keys_file. The key is not stored and cannot be shown again. Send SIGHUP
    to the gateways afterwards.
    """
    created = new_key(name)
    typer.echo(f"key for {name} (not shown again): {created.key}")
    typer.echo(f"line for api_keys_file:  {created.line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return commandline.run(app, "gateway", arguments, failures=(ApiKeyError, ClientError, PkiError, SettingsError))


def _given(file: Path | None) -> Path:
    if file is None:
        raise typer.BadParameter("missing; give --config FILE", param_hint="--config")
    return file
