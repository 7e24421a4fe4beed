"""A fake prover process controlled by its inputs; everything except the proof itself is the real `worker.prover`.

Inputs are {"do": …}: "prove" at once, "wait" for the file "until" to appear, "allocate" more than there is, "abort"
as Rust does when memory runs out, "panic", "exit". Before anything else the file "begun", if it is named, is made
with the process id in it.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker import prover
from zkp.proofs.errors import ProverFailed, UnsatisfiedInputs

PROOF = b"\x01" * 256
SECRET = "4711000815"


class PanicException(BaseException):
    """Not an Exception, as Rust panics are not."""


class FakeProver:
    """Replaces `zkp.proofs.groth16.Prover`."""

    def prove(self, inputs: bytes, public_inputs: Sequence[str]) -> bytes:
        wish: dict[str, Any] = json.loads(inputs)
        if "begun" in wish:
            fresh = Path(wish["begun"] + ".new")
            fresh.write_text(str(os.getpid()))
            fresh.rename(wish["begun"])
        match wish["do"]:
            case "wait":
                while not Path(wish["until"]).exists():
                    time.sleep(0.01)
            case "allocate":
                bytearray(1 << 40)
            case "abort":
                os.write(2, b"memory allocation of 1099511627776 bytes failed\n")
                os.abort()
            case "panic":
                raise PanicException(f"called unwrap on {SECRET}")
            case "exit":
                os._exit(3)
            case "fail":
                raise ProverFailed("the prover library failed (WitnessError)")
            case "refuse":
                raise UnsatisfiedInputs("the inputs do not lead to the public inputs that are to be proved")
        return PROOF


def job_inputs(do: str, **files: Path) -> bytes:
    """Return inputs that control a fake prover."""
    return json.dumps({"do": do, "secret": SECRET, **{key: str(path) for key, path in files.items()}}).encode()


def command(memory_limit: int = 10**9) -> tuple[str, ...]:
    """Return the command line of a fake prover."""
    return (sys.executable, "-m", "tests.integration.fakes.prover", "unused", str(memory_limit))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        prover._load = lambda _: {"addition": FakeProver()}  # type: ignore[assignment, dict-item]
        prover.main()
