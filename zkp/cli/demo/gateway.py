"""The HTTPS part of the demo: submits tasks and fetches proofs through the gateway."""

import http
import json
from collections.abc import Sequence
from pathlib import Path

from zkp.cli.errors import CommandFailed
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.https import HttpsCaller
from zkp.localcluster.layout import CLIENT, GATEWAY

_TASKS = "/api/v1/tasks"
_TIMEOUT_S = 30.0


def submit(cluster: LocalCluster, entries: Sequence[str]) -> list[str]:
    """Submit a Merkle and an addition task, and return their ids."""
    bodies: dict[str, dict[str, object]] = {
        "merkle": {"leaves": list(entries), "leaf_index": len(entries) - 1},
        "addition": {"a": "40", "b": "2"},
    }
    caller, gateway = _connect(cluster)
    ids = []
    for path, body in bodies.items():
        answer = caller.post(gateway, f"{_TASKS}/{path}", body, timeout=_TIMEOUT_S)
        if answer.status != http.HTTPStatus.ACCEPTED:
            raise CommandFailed(f"gateway: status {answer.status} for a {path} task: {dict(answer.document)}")
        ids.append(str(answer.document["id"]))
    return ids


def fetch_proofs(cluster: LocalCluster, ids: Sequence[str], directory: Path) -> list[Path]:
    """Write the proof documents of completed tasks to one file each."""
    caller, gateway = _connect(cluster)
    directory.mkdir(exist_ok=True)
    written = []
    for task_id in ids:
        answer = caller.get(gateway, f"{_TASKS}/{task_id}/proof", timeout=_TIMEOUT_S)
        if answer.status != http.HTTPStatus.OK:
            raise CommandFailed(f"gateway: status {answer.status} for the proof of {task_id}")
        path = directory / f"{task_id}.json"
        path.write_text(json.dumps(answer.document, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _connect(cluster: LocalCluster) -> tuple[HttpsCaller, str]:
    return HttpsCaller(cluster.layout.identity(CLIENT)), cluster.profile.addresses[GATEWAY]["https"]
