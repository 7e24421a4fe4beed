"""Proof verification in a thread pool: about 1 ms per proof, with a bounded number waiting."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from coordinator.errors import Overloaded

_RETRY_AFTER_S = 1.0


class ProofVerifier(Protocol):
    """A thread-safe verifier of single proofs. Returns False for all invalid input, malformed bytes included."""

    def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
        """Return whether the proof is valid for these public inputs."""
        ...


class Verification:
    """Verification of `threads` proofs in parallel (the library releases the GIL), at most `bound` in progress."""

    def __init__(self, verifier: ProofVerifier, *, threads: int = 2, bound: int = 1024) -> None:
        self._verifier = verifier
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        self._bound = bound
        self._in_progress = 0

    async def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
        """Return whether the proof is valid for the public inputs. Raises Overloaded at the bound."""
        if self._in_progress >= self._bound:
            raise Overloaded(f"{self._bound} proofs are being verified, which is the limit", _RETRY_AFTER_S)
        self._in_progress += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._verifier.verify, circuit, proof, tuple(public_inputs))
        finally:
            self._in_progress -= 1

    def close(self) -> None:
        """Shut the pool down; waiting verifications are cancelled, and their reports with them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
