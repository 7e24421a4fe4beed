"""The profile of a local cluster, `cluster.json`: its addresses and processes.

It is written after every start and stop, so that it is complete if the command crashes.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.layout import COORDINATORS
from zkp.localcluster.process import ProcessRecord

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ClusterProfile:
    """Addresses and processes of a cluster.

    `addresses`: member → purpose ("raft", "grpc", "health", "metrics", "https") → HOST:PORT.
    """

    addresses: Mapping[str, Mapping[str, str]]
    embedded_postgres: bool = True
    processes: Mapping[str, ProcessRecord] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """Daemons in start order."""
        return tuple(self.addresses)

    @property
    def coordinators(self) -> tuple[str, ...]:
        """GRPC addresses of the coordinators."""
        return tuple(self.addresses[name]["grpc"] for name in COORDINATORS)

    def with_process(self, name: str, record: ProcessRecord) -> Self:
        """Return the profile with one process added or replaced."""
        return replace(self, processes={**self.processes, name: record})

    def without_process(self, name: str) -> Self:
        """Return the profile without one process."""
        return replace(self, processes={known: record for known, record in self.processes.items() if known != name})

    def save(self, path: Path) -> None:
        """Write the profile, replacing the file atomically."""
        document = {"format": FORMAT, **asdict(self)}
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read a profile; None if there is none, `LocalClusterError` if it is invalid."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise LocalClusterError(
                    f"{path}: has the format of another version; run `zkp local down` with that version"
                )
            processes = {name: ProcessRecord(**record) for name, record in document["processes"].items()}
            return cls(document["addresses"], document["embedded_postgres"], processes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalClusterError(
                f"{path}: is damaged; stop the cluster's processes and delete {path.parent}"
            ) from error
        except OSError as error:
            raise LocalClusterError(f"{path}: cannot be read: {error.strerror}") from error
