"""ansible-playbook as an operator runs it, and a record of what it did, task by task and host by host."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_PROJECT = Path(__file__).parents[2]
ANSIBLE = _PROJECT / "ansible"
_PATIENCE_S = 1_800.0
_UMASK = 0o077
"""Of a strict operator: no mode on a host may come from it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one task on one host; `began` and `ended` are seconds of a clock that all steps share.

    Tasks of the same name have ids of their own.
    """

    host: str
    task: str
    id: str
    outcome: str  # ok, changed, failed, ignored, unreachable
    message: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a playbook that has ended, on its own or because it was killed. `seconds` is wall time."""

    status: int
    seconds: float
    output: str
    steps: tuple[Step, ...]

    def of(self, *outcomes: str) -> list[Step]:
        """The steps that ended so."""
        return [step for step in self.steps if step.outcome in outcomes]

    @property
    def changed(self) -> list[tuple[str, str]]:
        """(host, task) of everything that was changed."""
        return [(step.host, step.task) for step in self.of("changed")]

    @property
    def refusals(self) -> str:
        """What was said of the tasks that failed."""
        return "\n".join(f"{step.host}: {step.task}: {step.message}" for step in self.of("failed", "unreachable"))

    def slowest(self, count: int) -> list[tuple[float, str]]:
        """(seconds, task) from its begin on the first host to its end on the last."""
        times: dict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            times[step.id].append(step)
        spans = [(max(s.ended for s in each) - min(s.began for s in each), each[0].task) for each in times.values()]
        return sorted(spans, reverse=True)[:count]

    def demand_success(self) -> "Outcome":
        """Itself; AssertionError with Ansible's last words if it failed."""
        tail = "\n".join(self.output.splitlines()[-60:])
        assert self.status == 0, f"ansible-playbook ended with {self.status}: {self.refusals}\n{tail}"
        assert not self.of("failed", "unreachable"), self.refusals
        return self


class Playbook:
    """One run of one playbook, in the background until `wait`."""

    def __init__(
        self, name: str, inventories: Sequence[Path], variables: Mapping[str, Any], *more: str, log: Path
    ) -> None:
        self._log = log
        self._record = log.with_suffix(".jsonl")
        self._record.unlink(missing_ok=True)
        self._begun = time.monotonic()
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "ANSIBLE_FORCE_COLOR": "0",
            "ZKP_TEST_HOSTS_RECORD": str(self._record),
        }
        chosen = [word for inventory in inventories for word in ("--inventory", str(inventory))]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("ansible-playbook"), *chosen, "--extra-vars", json.dumps(variables),
                 *more, str(ANSIBLE / name)],
                cwd=ANSIBLE, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, umask=_UMASK,
            )  # fmt: skip

    def kill(self) -> Outcome:
        """As by `kill -9` of it and everything that it has started on this machine."""
        self._end()
        return self.wait()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What has been done until now."""
        lines = self._record.read_text("utf-8").splitlines() if self._record.exists() else []
        return tuple(Step(**json.loads(line)) for line in lines)

    @property
    def running(self) -> bool:
        """It has not ended yet."""
        return self._process.poll() is None

    def wait(self) -> Outcome:
        """Until it ends, and that is always: after half an hour it is killed."""
        try:
            status = self._process.wait(_PATIENCE_S)
        except BaseException:
            self._end()
            self._process.wait()
            raise
        seconds = time.monotonic() - self._begun
        return Outcome(status, seconds, self._log.read_text("utf-8", "replace"), self.steps)

    def _end(self) -> None:
        """Its workers have sessions of their own, so they are looked for, while it can start no more of them."""
        if self.running:
            main = psutil.Process(self._process.pid)
            main.suspend()
            for process in (*main.children(recursive=True), main):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
