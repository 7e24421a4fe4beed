"""The command line of a coordinator: serve, check a configuration, repair a stopped node."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator import recovery
from coordinator.config import settings as config
from coordinator.config.settings import CoordinatorSettings
from coordinator.recovery import RejoinRefused
from coordinator.rpc.http2 import LibraryError, check_library
from coordinator.serve import serve
from zkp import commandline
from zkp.commandline import VersionOption
from zkp.daemon import logs, native_stderr
from zkp.daemon.lifecycle import run
from zkp.daemon.settings import SettingsError
from zkp.proofs import ProofsError
from zkp.proofs.keys import KeyStore

app = typer.Typer(
    help="\b\nExample:\n  coordinator --config /etc/zkp/coordinator.yaml\n"
    "  coordinator check --config /etc/zkp/coordinator.yaml\n"
    "  coordinator rejoin /var/lib/zkp\n\n"
    "One of the nodes that agree on every task. Keys of the configuration can be set in the environment too: "
    "COORDINATOR_DATABASE_HOST sets database.host.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration, a YAML file.")]


@app.callback(invoke_without_command=True)
def start(context: typer.Context, config_file: ConfigOption = None, *, _version: VersionOption = False) -> int:
    """Run the coordinator until SIGTERM."""
    if context.invoked_subcommand is not None:
        context.obj = config_file
        return 0
    check_library()
    settings = config.check(_given(config_file), os.environ)
    logs.configure(settings.node.log_level, node_id=settings.node.id, stream=native_stderr.capture())
    return run(lambda life: serve(settings, life))


@app.command(short_help="Find what is wrong with a configuration, without listening or changing anything.")
def check(context: typer.Context, config_file: ConfigOption = None) -> None:
    """\b
    Example:
      coordinator check --config /etc/zkp/coordinator.yaml

    Prints "ok" and what the node would be, or one line that names the file, the key and the fix.
    """
    settings = config.check(_given(config_file or context.obj), os.environ)
    check_library()
    print(f"ok: {_summary(settings)}")


DataDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The node's node.data_dir.")]


@app.command(name="rejoin", short_help="Set a stopped node's files aside: it starts empty, and is caught up.")
def set_aside(
    directory: DataDirectory,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also when the node could use its files.")] = False,
) -> None:
    """\b
    Example:
      coordinator rejoin /var/lib/zkp

    For a node that refuses to start because of its own files. They are moved into a directory beside them; start the
    node again, and it adopts the cluster, is caught up by the others, and then votes again. Do this on one node at a
    time, while the others run: what no other node holds would be lost.
    """
    print(recovery.rejoin(directory, datetime.now(UTC), force=force))


@app.command(short_help="Let a node vote that cannot catch up, when a majority of disks is lost.")
def force_vote(directory: DataDirectory) -> None:
    """\b
    Example:
      coordinator force-vote /var/lib/zkp

    For one node, stopped, when a majority has lost its files, so that no leader can be elected. Tasks that only the
    lost files held are gone. The node that kept its files must run when this one is started again.
    """
    print(recovery.force_vote(directory))


def _given(path: Path | None) -> Path:
    if path is None:
        raise typer.BadParameter("name the configuration: --config FILE")
    return path


def _summary(settings: CoordinatorSettings) -> str:
    peers = ", ".join(peer.id for peer in settings.raft.peers if peer.id != settings.node.id) or "no peers"
    circuits = ", ".join(KeyStore(settings.proofs.keys_dir).verifying_keys()) or "no circuits"
    return f"{settings.node.id} with {peers}; gRPC on {settings.grpc.advertise}; {circuits}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    failures = (SettingsError, ProofsError, RejoinRefused, LibraryError)
    return commandline.run(app, "coordinator", arguments, failures=failures)
