"""The cluster and identity that a command uses: from options, the environment, or the local cluster."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pki.tls.material import TlsFiles, TlsMaterial
from zkp.cli.errors import UsageProblem
from zkp.client.leader import LeaderConnection
from zkp.localcluster.layout import Layout
from zkp.localcluster.profile import ClusterProfile

CLUSTER_PANEL = "Cluster"

Coordinators = Annotated[
    str | None,
    typer.Option(
        envvar="ZKP_COORDINATORS",
        metavar="HOST:PORT,…",
        help="gRPC addresses of the coordinators; one that is up is enough.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        envvar="ZKP_IDENTITY",
        metavar="DIR",
        help="Identity directory with certificate.pem, key.pem and ca.pem.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Directory = Annotated[
    Path,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Directory of the local cluster, used if no other cluster is given.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Addresses of the coordinators and the directory of the client's identity."""

    addresses: tuple[str, ...]
    identity: Path

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[LeaderConnection]:
        """Open a connection that finds the leader; raises `TlsError` if the identity is invalid."""
        material = TlsMaterial.load(TlsFiles.in_directory(self.identity))
        async with LeaderConnection(self.addresses, material) as connection:
            yield connection


def find_cluster(coordinators: str | None, identity: Path | None, directory: Path, *, role: str) -> ClusterTarget:
    """Return the cluster given by options or environment, or else the local one with the identity `role`.

    Args:
        role: "client" or "admin", an identity of the local cluster.
    """
    if coordinators is not None and identity is not None:
        addresses = tuple(address.strip() for address in coordinators.split(",") if address.strip())
        if not addresses:
            raise UsageProblem("--coordinators: contains no address; write HOST:PORT,HOST:PORT,…")
        return ClusterTarget(addresses, identity)
    if coordinators is not None or identity is not None:
        missing = "--identity (or ZKP_IDENTITY)" if identity is None else "--coordinators (or ZKP_COORDINATORS)"
        raise UsageProblem(f"{missing}: is missing; --coordinators and --identity must be given together")
    layout = Layout(directory.resolve())
    profile = ClusterProfile.load(layout.profile)
    if profile is None:
        raise UsageProblem(
            f"no cluster is given and none is in {directory}; give --coordinators and --identity, "
            "or run `zkp local up`"
        )
    return ClusterTarget(profile.coordinators, layout.identity(role))
