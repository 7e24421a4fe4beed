"""Checking proofs beside the event loop: about a millisecond each, in a few threads, a bounded number waiting."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from coordinator.errors import Overloaded

_RETRY_AFTER_S = 1.0


class ProofVerifier(Protocol):
    """What checks one proof, in any thread. False for whatever does not verify, whatever the bytes are."""

    def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool: ...


class Verification:
    """`threads` proofs at once (the prover library releases the interpreter's lock), `bound` under way in all."""

    def __init__(self, verifier: ProofVerifier, *, threads: int = 2, bound: int = 1024) -> None:
        self._verifier = verifier
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        self._bound = bound
        self._under_way = 0

    async def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
        """Whether the proof shows the statement. Raises Overloaded at the bound."""
        if self._under_way >= self._bound:
            raise Overloaded(f"{self._bound} proofs are being verified, which is the limit", _RETRY_AFTER_S)
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._verifier.verify, circuit, proof, tuple(public_inputs))
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Let the threads go; checks that wait are dropped, and their reports with them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
