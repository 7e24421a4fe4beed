"""The part of the demo that a client without gRPC plays: tasks in and proofs out over the gateway's HTTPS."""

import http
import json
from collections.abc import Sequence
from pathlib import Path

from zkp.cli.errors import CommandFailed
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.https import HttpsCaller
from zkp.localcluster.layout import CLIENT, GATEWAY

_TASKS = "/api/v1/tasks"
_TIMEOUT_SECONDS = 30.0


def submit(cluster: LocalCluster, entries: Sequence[str]) -> list[str]:
    """Submit a membership proof and a sum; the ids they were given."""
    bodies: dict[str, dict[str, object]] = {
        "merkle": {"leaves": list(entries), "leaf_index": len(entries) - 1},
        "addition": {"a": "40", "b": "2"},
    }
    caller, gateway = _reach(cluster)
    ids = []
    for path, body in bodies.items():
        answer = caller.post(gateway, f"{_TASKS}/{path}", body, timeout=_TIMEOUT_SECONDS)
        if answer.status != http.HTTPStatus.ACCEPTED:
            raise CommandFailed(f"the gateway answered {answer.status} to a {path} task: {dict(answer.document)}")
        ids.append(str(answer.document["id"]))
    return ids


def fetch_proofs(cluster: LocalCluster, ids: Sequence[str], directory: Path) -> list[Path]:
    """Write the proof documents of completed tasks as the gateway gives them, one file each."""
    caller, gateway = _reach(cluster)
    directory.mkdir(exist_ok=True)
    written = []
    for task_id in ids:
        answer = caller.get(gateway, f"{_TASKS}/{task_id}/proof", timeout=_TIMEOUT_SECONDS)
        if answer.status != http.HTTPStatus.OK:
            raise CommandFailed(f"the gateway answered {answer.status} to the proof of {task_id}")
        path = directory / f"{task_id}.json"
        path.write_text(json.dumps(answer.document, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _reach(cluster: LocalCluster) -> tuple[HttpsCaller, str]:
    return HttpsCaller(cluster.layout.identity(CLIENT)), cluster.profile.addresses[GATEWAY]["https"]
