"""`coordinator`: serve, or check a configuration. Only wires; see `serve`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from coordinator import config
from coordinator.config import CoordinatorSettings
from coordinator.serve import serve
from daemon import logs
from daemon.lifecycle import run
from proofs import ProofsError
from proofs.keys import KeyStore
from settings import SettingsError

app = typer.Typer(
    help="\b\nExample:\n  coordinator --config /etc/zkp/coordinator.yaml\n"
    "  coordinator check --config /etc/zkp/coordinator.yaml\n\n"
    "One of the nodes that agree on every task. Keys of the configuration can be set in the environment too: "
    "COORDINATOR_DATABASE_HOST sets database.host.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration, a YAML file.")]


@app.callback(invoke_without_command=True)
def start(context: typer.Context, config_file: ConfigOption = None) -> int:
    if context.invoked_subcommand is not None:
        context.obj = config_file
        return 0
    settings = config.check(_given(config_file), os.environ)
    logs.configure(settings.node.log_level)
    return run(lambda life: serve(settings, life))


@app.command(short_help="Find what is wrong with a configuration, without listening or changing anything.")
def check(context: typer.Context, config_file: ConfigOption = None) -> None:
    """\b
    Example:
      coordinator check --config /etc/zkp/coordinator.yaml

    Prints "ok" and what the node would be, or one line that names the file, the key and the cure.
    """
    settings = config.check(_given(config_file or context.obj), os.environ)
    print(f"ok: {_summary(settings)}")


def _given(path: Path | None) -> Path:
    if path is None:
        raise typer.BadParameter("name the configuration: --config FILE")
    return path


def _summary(settings: CoordinatorSettings) -> str:
    peers = ", ".join(peer.id for peer in settings.raft.peers if peer.id != settings.node.id) or "no peers"
    circuits = ", ".join(KeyStore(settings.proofs.keys_dir).verifying_keys()) or "no circuits"
    return f"{settings.node.id} with {peers}; gRPC on {settings.grpc.advertise}; {circuits}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (failed) or 2 (used wrongly)."""
    try:
        code = app(args=argv, prog_name="coordinator", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; see --help", error.exit_code)
    except (SettingsError, ProofsError) as error:
        return _fail(str(error), 1)
    except typer.Abort:
        return _fail("stopped", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
