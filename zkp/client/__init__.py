"""Client library of the network: `from zkp.client import Client`.

`Client` submits tasks and returns their proofs. The modules below it are the parts that workers, the gateway and the
`zkp` command use: `leader` finds the leader and follows it (nothing else opens a gRPC channel), `tasks` and `admin`
are the services. `Client` is loaded at its first use, so that the pure modules (`backoff`, `leader_search`) load
without gRPC.
"""

from typing import TYPE_CHECKING

import pki as pki  # before gRPC, which reads its cipher suites once: TLS 1.3 only

__all__ = ["Client"]

if TYPE_CHECKING:
    from zkp.client.client import Client
else:

    def __getattr__(name: str) -> object:
        """Load `Client` at its first use (PEP 562)."""
        if name != "Client":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from zkp.client.client import Client  # noqa: PLC0415 - loads gRPC

        return Client
