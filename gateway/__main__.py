"""The `gateway` command, also as `python -m gateway`. Only wires: what is served is in `serve`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Never

import typer

from gateway import config
from gateway.callers import ApiKeyError, new_key
from gateway.serve import serve
from pki.errors import PkiError
from zkp.client.errors import ClientError
from zkp.daemon import logs, native_stderr
from zkp.daemon.lifecycle import run
from zkp.daemon.settings import SettingsError

_FAILED, _USED_WRONGLY = 1, 2
_STOP_TIMEOUT_S = 30.0

ConfigFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="the configuration, YAML")]

app = typer.Typer(
    name="gateway",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Example: gateway --config /etc/zkp/gateway.yaml\n\n"
    "Serves the proving network's HTTPS API to clients. SIGHUP reads certificates and API keys again; "
    "SIGTERM finishes what was begun.",
)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="the configuration, YAML")
    ] = None,
) -> None:
    """Serve."""
    if context.invoked_subcommand is not None:
        if config_file is not None:
            raise _misused(f"write --config after the word {context.invoked_subcommand}")
        return
    if config_file is None:
        raise _misused("--config FILE is missing; see gateway --help")
    settings = config.check(config_file, os.environ)
    logs.configure(settings.log_level, node_id=settings.id, stream=native_stderr.capture())
    context.exit(run(lambda life: serve(settings, life), stop_timeout=_STOP_TIMEOUT_S))


@app.command(short_help="Check a configuration and the files it names; serve nothing.")
def check(config_file: ConfigFile) -> None:
    """Example: gateway check --config /etc/zkp/gateway.yaml

    Says what is wrong with a configuration, in one line, or that it is good. Listens nowhere.
    """
    settings = config.check(config_file, os.environ)
    typer.echo(f"{config_file}: good; {settings.id} would serve on {settings.bind}")


@app.command(name="new-api-key", short_help="Make an API key.")
def new_api_key(name: Annotated[str, typer.Argument(metavar="NAME", help="whose key it is")]) -> None:
    """Example: gateway new-api-key billing-service

    Prints a new key, which is shown this once, and the line to add to the file of API keys. Send SIGHUP to
    the gateways afterwards.
    """
    made = new_key(name)
    typer.echo(f"key for {name} (not shown again): {made.key}")
    typer.echo(f"line for api_keys_file:  {made.line}")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 done, 1 failed, 2 used wrongly."""
    try:
        outcome = app(args=arguments, prog_name="gateway", standalone_mode=False)
    except typer.TyperException as problem:
        return _fail(problem.format_message(), problem.exit_code)
    except (ApiKeyError, ClientError, PkiError, SettingsError) as error:
        return _fail(str(error), _FAILED)
    return outcome if isinstance(outcome, int) else 0


def main() -> Never:
    """The console command."""
    sys.exit(command())


def _misused(message: str) -> typer.TyperException:
    problem = typer.TyperException(message)
    problem.exit_code = _USED_WRONGLY
    return problem


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return status


if __name__ == "__main__":
    main()
