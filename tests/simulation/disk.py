"""A disk that forgets what was not synced, tears writes, fills up, and lets a process die at any call."""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR = 512


class ProcessDied(BaseException):
    """The process was killed in the middle of an I/O call. Not an Exception: nothing may catch it."""


@dataclass
class _Content:
    """A file: what the operating system shows, and what the platters hold."""

    cached: bytearray
    durable: bytearray
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Call:
    """An I/O call that is about to be made. name: of the file; data: to be written to it."""

    kind: str
    name: str
    data: bytes = b""


class SimFile:
    def __init__(self, disk: "SimDisk", name: str, content: _Content) -> None:
        self._disk = disk
        self._name = name
        self._content = content

    def write_at(self, data: bytes, offset: int) -> None:
        self._disk.step(Call("write", self._name, data))
        if self._disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._content.cached[offset : offset + len(data)] = data
        self._content.unsynced.append((offset, data))

    def truncate(self, size: int) -> None:
        self._disk.step(Call("truncate", self._name))
        content = self._content
        content.cached = content.cached[:size].ljust(size, b"\0")
        content.durable = bytearray(content.cached)
        content.unsynced = []

    def datasync(self) -> None:
        self._disk.step(Call("sync", self._name))
        if self._disk.slow:
            self._disk.on_slow(self._disk.slow)
        for offset, data in self._content.unsynced:
            self._content.durable[offset : offset + len(data)] = data
        self._content.unsynced = []
        self._disk.step(Call("synced", self._name))

    def close(self) -> None:
        pass


class SimDisk:
    """One node's directory. `die_in` counts I/O calls until the process dies; 0 means never."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, _Content] = {}
        self._removed: dict[str, _Content] = {}
        self.full = False
        self.die_in = 0
        self.die_at: Callable[[Call], bool] | None = None
        """Asked before each call whether the process dies now; once."""
        self.slow = 0.0
        """Seconds that a sync takes."""
        self.slow_snapshots = 0.0
        """Seconds that it takes to store a snapshot."""
        self.on_slow: Callable[[float], None] = lambda _seconds: None
        self.on_slow_snapshot: Callable[[float], None] = lambda _seconds: None

    def step(self, call: Call) -> None:
        if self.die_at is not None and self.die_at(call):
            self.die_at = None
            raise ProcessDied
        if self.die_in:
            self.die_in -= 1
            if not self.die_in:
                raise ProcessDied

    def lose_power(self) -> None:
        """Keep what was synced and an arbitrary part, sector by sector, of what was not."""
        for name, content in self._removed.items():
            if name not in self._files and self._rng.random() < 0.5:
                self._files[name] = content
        self._removed.clear()
        for content in self._files.values():
            survived = bytearray(content.durable)
            for offset, data in content.unsynced:
                for start in range(0, len(data), SECTOR):
                    if self._rng.random() < 0.5:
                        part = data[start : start + SECTOR]
                        survived[offset + start : offset + start + len(part)] = part
            content.cached, content.durable, content.unsynced = survived, bytearray(survived), []

    def wipe(self) -> None:
        self._files.clear()
        self._removed.clear()

    def corrupt(self, name: str, offset: int) -> None:
        """Flip every bit of one byte, for good."""
        content = self._files[name]
        content.cached[offset] ^= 0xFF
        content.durable[offset] ^= 0xFF

    def durable(self, name: str) -> bytes | None:
        """What would be read after a loss of power."""
        content = self._files.get(name)
        return bytes(content.durable) if content is not None else None

    @property
    def behind(self) -> bool:
        """True while something was written that is not durable."""
        return any(content.unsynced for content in self._files.values())

    # ------------------------------------------------------------ the Disk interface

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes | None:
        content = self._files.get(name)
        return bytes(content.cached) if content is not None else None

    def read_part(self, name: str, offset: int, size: int) -> bytes | None:
        content = self._files.get(name)
        return bytes(content.cached[offset : offset + size]) if content is not None else None

    def create(self, name: str, size: int) -> SimFile:
        self.step(Call("create", name))
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._files[name] = _Content(bytearray(size), bytearray(size))
        self.step(Call("created", name))
        return SimFile(self, name, self._files[name])

    def open(self, name: str) -> SimFile:
        return SimFile(self, name, self._files[name])

    def replace(self, name: str, data: bytes | bytearray) -> None:
        self.step(Call("replace", name, bytes(data)))
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._files[name] = _Content(bytearray(data), bytearray(data))
        if self.slow_snapshots and name.endswith(".snapshot"):
            self.on_slow_snapshot(self.slow_snapshots)
        self.step(Call("replaced", name))

    def remove(self, name: str) -> None:
        self.step(Call("remove", name))
        content = self._files.pop(name, None)
        if content is not None:
            self._removed[name] = content
