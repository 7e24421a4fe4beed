"""A prover process: loads the proving keys once, then proves what its parent sends, one after the other.

Started as `python -m worker.prover KEYS_DIR MEMORY_LIMIT`. Stdin and stdout carry frames. It limits its own
memory, steps back behind the agent in CPU and memory priority, and ends with its parent: a thread waits on
stdin, which the kernel closes when the parent dies, however it dies. It writes no log: what it says goes to
the parent as a frame, and no frame or error repeats an input.
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

_NICE = 5  # heartbeats go first
_OOM_SCORE_ADJ = 500  # the kernel, out of memory, takes this process and not the agent

_REPORTED: Mapping[type[ProofsError], tuple[str, bool]] = {
    UnsatisfiedInputs: ("unsatisfied_inputs", False),
    InputError: ("invalid_inputs", False),
    ProverFailed: ("prover_failed", True),
}


def main() -> None:
    """Serve the parent until it closes the pipe."""
    keys_dir, memory_limit = Path(sys.argv[1]), int(sys.argv[2])
    requests, answers = _take_pipes()
    incoming: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, incoming), daemon=True).start()
    _step_back(memory_limit)
    try:
        provers = _load(keys_dir)
    except ProofsError as error:
        _send(answers, {"broken": str(error)})
        raise SystemExit(1) from None
    _send(answers, {"ready": True})
    while True:
        _send(answers, _prove(provers, incoming.get()))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes, out of the reach of libraries that print to the standard streams."""
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
    os._exit(0)  # the parent has gone; a proof in progress is nobody's any more


def _step_back(memory_limit: int) -> None:
    os.nice(_NICE)
    # Private memory, not address space: libraries reserve far more of the latter than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold private inputs
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ), encoding="ascii")


def _load(keys_dir: Path) -> Mapping[str, Prover]:
    keys = KeyStore(keys_dir)
    return {name: Prover(keys, name) for name in keys.verifying_keys() if keys.can_prove(name)}


def _prove(provers: Mapping[str, Prover], job: Frame) -> Frame:
    """The answer to one job; with "spent" when this process should not prove again."""
    prover = provers.get(job["circuit"])
    if prover is None:
        return _failure("key_mismatch", f"no proving key of circuit {job['circuit']!r} here")
    began = time.monotonic()
    try:
        proof = prover.prove(job["inputs"].encode(), job["public_inputs"])
    except (UnsatisfiedInputs, InputError, ProverFailed) as error:
        code, retryable = _REPORTED[type(error)]
        return _failure(code, str(error), retryable=retryable)
    except MemoryError:
        return _failure("out_of_memory", "the proof needs more than the worker's memory_limit", spent=True)
    except BaseException as error:  # noqa: BLE001 - a panic in the library is derived from BaseException
        # Only the kind of error: its words may repeat a private input.
        return _failure("prover_failed", f"the prover failed ({type(error).__name__})", spent=True)
    return {"proof": proof.hex(), "proving_ms": round((time.monotonic() - began) * 1000)}


def _failure(code: str, message: str, *, retryable: bool = True, spent: bool = False) -> Frame:
    return {"code": code, "message": message, "retryable": retryable, "spent": spent}


def _send(answers: BinaryIO, frame: Frame) -> None:
    answers.write(encode(frame))
    answers.flush()


if __name__ == "__main__":
    main()
