"""Which cluster a command talks to, and as whom: options, then the environment, then the local cluster."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pki.tls.material import TlsFiles, TlsMaterial
from zkp.cli.errors import UsageProblem
from zkp.client.leader import LeaderConnection
from zkp.localcluster.layout import DEFAULT_DIRECTORY, Layout
from zkp.localcluster.profile import ClusterProfile

CLUSTER_PANEL = "Which cluster"

Coordinators = Annotated[
    str | None,
    typer.Option(
        envvar="ZKP_COORDINATORS",
        metavar="HOST:PORT,…",
        help="gRPC addresses of the coordinators; any of them will do.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        envvar="ZKP_IDENTITY",
        metavar="DIR",
        help="Directory with certificate.pem, key.pem and ca.pem.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Directory = Annotated[
    Path,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Directory of the local cluster, used when no other cluster is named.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Coordinators and the directory of the identity to show them."""

    addresses: tuple[str, ...]
    identity: Path

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[LeaderConnection]:
        """A connection that finds the leader; raises `TlsError` for an unusable identity."""
        material = TlsMaterial.load(TlsFiles.in_directory(self.identity))
        async with LeaderConnection(self.addresses, material) as connection:
            yield connection


def find(coordinators: str | None, identity: Path | None, directory: Path, *, role: str) -> ClusterTarget:
    """The cluster that was named, or else the local one, as its member `role` ("client" or "admin")."""
    if coordinators is not None and identity is not None:
        addresses = tuple(address.strip() for address in coordinators.split(",") if address.strip())
        if not addresses:
            raise UsageProblem("--coordinators names no address: write HOST:PORT,HOST:PORT,…")
        return ClusterTarget(addresses, identity)
    if coordinators is not None or identity is not None:
        missing = "--identity (or ZKP_IDENTITY)" if identity is None else "--coordinators (or ZKP_COORDINATORS)"
        raise UsageProblem(f"coordinators and identity belong together: give {missing} too")
    layout = Layout(directory.resolve())
    profile = ClusterProfile.load(layout.profile)
    if profile is None:
        raise UsageProblem(
            f"no cluster is named and none is in {directory}: give --coordinators and --identity, "
            "or start one here with `zkp local up`"
        )
    return ClusterTarget(profile.coordinators, layout.identity(role))


DEFAULT = DEFAULT_DIRECTORY
