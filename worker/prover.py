"""A prover process: loads the proving keys once, then proves its parent's jobs one after the other.

Started as `python -m worker.prover KEYS_DIR MEMORY_LIMIT`. Stdin and stdout carry frames. It limits its own memory,
lowers its CPU and OOM priority below the agent's, and exits with its parent: a thread waits on stdin, which the
kernel closes when the parent exits for any reason. It writes no log: results go to the parent as frames, and no
frame or error contains an input.
"""

import contextlib
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from worker.frames import Frame, encode, read
from zkp.proofs.errors import InputError, ProofsError, ProverFailed, UnsatisfiedInputs
from zkp.proofs.groth16 import Prover
from zkp.proofs.keys import KeyStore

_NICENESS = 5  # the agent's heartbeats have priority
_OOM_SCORE_ADJ = 500  # out of memory, the kernel kills this process rather than the agent

_FAILURES: Mapping[type[ProofsError], tuple[str, bool]] = {
    UnsatisfiedInputs: ("unsatisfied_inputs", False),
    InputError: ("invalid_inputs", False),
    ProverFailed: ("prover_failed", True),
}


def main() -> None:
    """Prove jobs until the parent closes the pipe."""
    keys_dir, memory_limit = Path(sys.argv[1]), int(sys.argv[2])
    requests, answers = _redirect_standard_streams()
    incoming: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, incoming), daemon=True).start()
    _limit_resources(memory_limit)
    try:
        provers = _load(keys_dir)
    except ProofsError as error:
        _send(answers, {"startup_error": str(error)})
        raise SystemExit(1) from None
    _send(answers, {"ready": True})
    while True:
        _send(answers, _prove(provers, incoming.get()))


def _redirect_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes, and redirect stdin and stdout to /dev/null, since libraries may print to them."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return requests, answers


def _receive(requests: BinaryIO, incoming: "queue.SimpleQueue[Frame]") -> None:
    while (frame := read(requests)) is not None:
        incoming.put(frame)
    os._exit(0)  # the parent has exited; a running proof is abandoned


def _limit_resources(memory_limit: int) -> None:
    os.nice(_NICENESS)
    # Private memory, not address space: libraries reserve far more of the latter than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold private inputs
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ), encoding="ascii")


def _load(keys_dir: Path) -> Mapping[str, Prover]:
    keys = KeyStore(keys_dir)
    return {name: Prover(keys, name) for name in keys.verifying_keys() if keys.can_prove(name)}


def _prove(provers: Mapping[str, Prover], job: Frame) -> Frame:
    """Return the answer to a job; "restart" is true if this process must be replaced."""
    prover = provers.get(job["circuit"])
    if prover is None:
        return _failure("key_mismatch", f"circuit {job['circuit']!r}: no proving key in keys_dir; copy it there")
    began = time.monotonic()
    try:
        proof = prover.prove(job["inputs"].encode(), job["public_inputs"])
    except (UnsatisfiedInputs, InputError, ProverFailed) as error:
        code, retryable = _FAILURES[type(error)]
        return _failure(code, str(error), retryable=retryable)
    except MemoryError:
        return _failure("out_of_memory", "the proof exceeds the worker's memory_limit", restart=True)
    except BaseException as error:  # noqa: BLE001 - a panic in the library is derived from BaseException
        # Only the type of the error: its message may contain a private input.
        return _failure("prover_failed", f"the prover failed ({type(error).__name__})", restart=True)
    return {"proof": proof.hex(), "proving_ms": round((time.monotonic() - began) * 1000)}


def _failure(code: str, message: str, *, retryable: bool = True, restart: bool = False) -> Frame:
    return {"code": code, "message": message, "retryable": retryable, "restart": restart}


def _send(answers: BinaryIO, frame: Frame) -> None:
    answers.write(encode(frame))
    answers.flush()


if __name__ == "__main__":
    main()
