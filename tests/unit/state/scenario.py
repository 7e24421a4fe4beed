"""A small language for histories of the state machine: commands and, indented below each, what came of it.

Lines at the margin are commands, `# …` are comments, indented lines are outcomes. `replay` carries out the commands
and writes the whole text again with the outcomes as they are, so that a failing scenario shows as a diff.

    at MS · term N                          the leader's clock and term for what follows
    circuit NAME KEY                        register a circuit
    submit ID CIRCUIT [inputs=…] [public=1,2] [retries=N] [by=…]
    cancel ID
    assign ID WORKER
    start ID WORKER ATTEMPT
    complete ID WORKER ATTEMPT PROOF
    fail ID WORKER ATTEMPT CODE [final | released]
    lose ID ATTEMPT CODE                    the leader takes the lease back
    register WORKER INCARNATION [capacity=N] [circuits=a,b] [held=ID/ATTEMPT,…] [serial=HEX]
    offline WORKER INCARNATION · quarantine WORKER REASON · release WORKER
    revoke SERIAL [by=WORKER] [of=SUBJECT] [until=MS]    a certificate, used by WORKER of late
    projected REVISION [forget-up-to=REVISION]
    snapshot                                go on with a state that was read back from its own bytes
    show ID · worker WORKER · queue · leases WORKER · counts · outbox · revoked
"""

import shlex
from collections.abc import Callable

from coordinator.state.codec import capture_state, decode_state
from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Fail,
    LoseLease,
    MarkOffline,
    Projected,
    Quarantine,
    RegisterCircuit,
    RegisterWorker,
    Release,
    RevokeCertificate,
    Start,
    Submit,
)
from coordinator.state.machine import State
from coordinator.state.model import Outcome, TaskEvent

Words = list[str]
Options = dict[str, str]


def replay(text: str) -> str:
    """The same text with the outcomes that the state machine gives today."""
    stage = _Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(("    ", "\t")):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += [f"    {outcome}" for outcome in stage.carry_out(line)]
    return "\n".join(lines) + "\n"


class _Stage:
    """One state and the leader's clock and term."""

    def __init__(self) -> None:
        self.state = State()
        self.now_ms = 1_000
        self.term = 1

    def carry_out(self, line: str) -> list[str]:
        verb, *rest = shlex.split(line)
        words = [word for word in rest if "=" not in word]
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        if verb in _COMMANDS:
            outcome = self.state.apply(_COMMANDS[verb](words, options), self.now_ms, self.term)
            return _describe(outcome)
        answer = _QUESTIONS[verb](self, words)
        return [answer] if answer else []

    def set_clock(self, words: Words) -> str:
        self.now_ms = int(words[0])
        return ""

    def set_term(self, words: Words) -> str:
        self.term = int(words[0])
        return ""

    def snapshot(self, _words: Words) -> str:
        self.state = decode_state(b"".join(capture_state(self.state)))
        return ""

    def show(self, words: Words) -> str:
        task = self.state.tasks.get(words[0])
        if task is None:
            return "unknown"
        parts = [str(task.state), f"attempt {task.attempt}", f"retries {task.retries} of {task.max_retries}"]
        parts += [f"held by {task.worker_id}"] if task.state.leased else []
        parts += [f"proof {task.proof.decode()}"] if task.proof else []
        parts += [f"error {task.error_code}"] if task.error_code else []
        inputs = self.state.inputs.get(task.id)
        parts += [f"inputs {inputs.decode()}" if inputs is not None else "no inputs"]
        return ", ".join(parts)

    def worker(self, words: Words) -> str:
        worker = self.state.workers.get(words[0])
        if worker is None:
            return "unknown"
        return f"{worker.state}, incarnation {worker.incarnation}, capacity {worker.capacity}"

    def queue(self, _words: Words) -> str:
        return " ".join(self.state.queue) or "empty"

    def leases(self, words: Words) -> str:
        return " ".join(sorted(self.state.leases.get(words[0], ()))) or "none"

    def counts(self, _words: Words) -> str:
        return ", ".join(f"{state} {count}" for state, count in self.state.counts.items() if count) or "none"

    def outbox(self, _words: Words) -> str:
        return " ".join(str(event.revision) for event in self.state.outbox) or "empty"

    def revoked(self, _words: Words) -> str:
        found = self.state.revoked.values()
        return ", ".join(f"{one.serial} of {one.subject or 'nobody known'}" for one in found) or "none"


_QUESTIONS: dict[str, Callable[[_Stage, Words], str]] = {
    "at": _Stage.set_clock,
    "term": _Stage.set_term,
    "snapshot": _Stage.snapshot,
    "show": _Stage.show,
    "worker": _Stage.worker,
    "queue": _Stage.queue,
    "leases": _Stage.leases,
    "counts": _Stage.counts,
    "outbox": _Stage.outbox,
    "revoked": _Stage.revoked,
}


def _listed(options: Options, key: str) -> tuple[str, ...]:
    return tuple(part for part in options.get(key, "").split(",") if part)


def _submit(words: Words, options: Options) -> Command:
    return Submit(
        task_id=words[0],
        submitter=options.get("by", "client"),
        circuit=words[1],
        inputs=options.get("inputs", "secret").encode(),
        public_inputs=_listed(options, "public"),
        max_retries=int(options.get("retries", "3")),
    )


def _fail(words: Words, _options: Options) -> Command:
    return Fail(
        task_id=words[0],
        worker_id=words[1],
        attempt=int(words[2]),
        code=words[3],
        message="",
        retryable="final" not in words[4:],
        released="released" in words[4:],
    )


def _register(words: Words, options: Options) -> Command:
    held = (pair.split("/") for pair in _listed(options, "held"))
    return RegisterWorker(
        worker_id=words[0],
        incarnation=words[1],
        capacity=int(options.get("capacity", "1")),
        circuits=frozenset(_listed(options, "circuits") or ("addition",)),
        held=tuple((task_id, int(attempt)) for task_id, attempt in held),
        version="1",
        certificate_serial=options.get("serial", ""),
    )


def _revoke(words: Words, options: Options) -> Command:
    return RevokeCertificate(
        serial=words[0],
        subject=options.get("of", ""),
        reason="key-compromise",
        not_after_ms=int(options.get("until", "9000")),
        worker_id=options.get("by", ""),
    )


_COMMANDS: dict[str, Callable[[Words, Options], Command]] = {
    "circuit": lambda words, _: RegisterCircuit(words[0], words[1]),
    "submit": _submit,
    "cancel": lambda words, _: Cancel(words[0]),
    "assign": lambda words, _: Assign(words[0], words[1]),
    "start": lambda words, _: Start(words[0], words[1], int(words[2])),
    "complete": lambda words, _: Complete(words[0], words[1], int(words[2]), words[3].encode()),
    "fail": _fail,
    "lose": lambda words, _: LoseLease(words[0], int(words[1]), words[2], ""),
    "register": _register,
    "offline": lambda words, _: MarkOffline(words[0], words[1]),
    "quarantine": lambda words, _: Quarantine(words[0], words[1]),
    "release": lambda words, _: Release(words[0]),
    "revoke": _revoke,
    "projected": lambda words, options: Projected(int(words[0]), int(options.get("forget-up-to", "0"))),
}


def _describe(outcome: Outcome) -> list[str]:
    """One line an event, a refusal or a repetition."""
    if outcome.refusal is not None:
        return [f"refused ({outcome.refusal.code}): {outcome.refusal.message}"]
    lines = [_describe_event(event) for event in outcome.events]
    if outcome.duplicate:
        lines.append("nothing new: the same was said before")
    lines += [f"to drop: {task_id}/{attempt}" for task_id, attempt in outcome.dropped]
    return lines or ["done"]


def _describe_event(event: TaskEvent) -> str:
    words = f"{event.revision}. {event.kind}"
    if event.task is not None:
        words += f": {event.task.id} is {event.task.state}"
    if event.attempt is not None:
        words += f", attempt {event.attempt.attempt} by {event.attempt.worker_id} {event.attempt.state}"
        words += f" in term {event.attempt.term}"
    if event.worker is not None:
        words += f": {event.worker.id} is {event.worker.state}"
    if event.circuit is not None:
        words += f": {event.circuit.name} with key {event.circuit.verifying_key_sha256}"
    if event.revocation is not None:
        words += f": {event.revocation.serial}, {event.revocation.reason}"
    return words
