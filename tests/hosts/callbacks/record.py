"""Loaded by ansible-playbook: writes what became of every task on every host, as JSON lines, for the tests."""

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]  # Ansible has no types

DOCUMENTATION = """
name: record
type: notification
short_description: JSON lines in the file that ZKP_TEST_HOSTS_RECORD names
description: One line a task and host, with its outcome and how long it took.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # the same
    """One line a task and host: when it is known what became of it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[tuple[str, str], float] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._begun[host.name, task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._record(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._record(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._record(result, "unreachable")

    def _record(self, result: Any, outcome: str) -> None:
        host, task = result._host.name, result._task
        now = time.monotonic()
        line = {
            "host": host,
            "task": task.get_name().strip(),
            "id": task._uuid,
            "outcome": outcome,
            "message": _message(result._result),
            "began": self._begun.get((host, task._uuid), now),
            "ended": now,
        }
        with Path(os.environ["ZKP_TEST_HOSTS_RECORD"]).open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")


def _message(result: dict[str, Any]) -> str:
    """What Ansible would say of it, and what the items of a loop said that failed."""
    failed = [item for item in result.get("results") or () if isinstance(item, dict) and item.get("failed")]
    said = [str(each.get("msg", "")) for each in (*failed, result)]
    return " / ".join(filter(None, said))
