"""The calls that are open now, by the certificate behind each, so that a revocation can end them."""

import asyncio
from collections.abc import Container, Iterator
from contextlib import contextmanager


class OpenCalls:
    """Serial number → the time limits of the calls that were made with that certificate."""

    def __init__(self) -> None:
        self._limits: dict[int, set[asyncio.Timeout]] = {}

    @contextmanager
    def holding(self, serial: int, limit: asyncio.Timeout) -> Iterator[None]:
        """Register a call for the duration of the context. To end it, its timeout (already entered) is set to now."""
        limits = self._limits.setdefault(serial, set())
        limits.add(limit)
        try:
            yield
        finally:
            limits.discard(limit)
            if not limits:
                self._limits.pop(serial, None)

    def end(self, revoked: Container[int]) -> None:
        """End the calls of these certificates."""
        for serial in [serial for serial in self._limits if serial in revoked]:
            for limit in self._limits[serial]:
                if not limit.expired():
                    limit.reschedule(asyncio.get_running_loop().time())
