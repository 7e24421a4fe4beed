"""Proves in processes of their own, one for each slot, so that whatever a proof does, only its attempt is
lost.

A process that crashed, was killed, ran out of memory or time, or works on a proof that nobody wants any
more is ended and replaced when its slot is needed next. Nothing that a process prints is logged: it might
be a private input.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from worker import frames
from worker.errors import PoolError
from worker.job import FinishedProof, Job, ProvingFailed

_START_LIMIT_S = 120.0  # proving keys of large circuits take a while on a slow disk
_STDERR_BYTES = 4096
_RUST_OUT_OF_MEMORY = b"memory allocation of"  # Rust's last words before it aborts
_OUT_OF_MEMORY = "the proof needs more than the worker's memory_limit"


class Pool(Protocol):
    """Something that proves."""

    async def prove(self, job: Job) -> FinishedProof:
        """A verified proof; raises `ProvingFailed`. Cancel it to end the attempt at once."""
        ...


class ProverPool:
    """`slots` processes, each started with `command`."""

    def __init__(self, command: Sequence[str], slots: int) -> None:
        self._slots = [_Slot(command) for _ in range(slots)]
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self.busy = 0
        """Proofs being made now."""

    async def start(self) -> None:
        """Start every process and wait until its keys are loaded; raises `PoolError`."""
        await asyncio.gather(*(slot.start() for slot in self._slots))
        for slot in self._slots:
            self._free.put_nowait(slot)

    async def prove(self, job: Job) -> FinishedProof:
        """Waits for a free slot, which a worker that keeps to its capacity has; see `Pool`."""
        slot = await self._free.get()
        self.busy += 1
        try:
            return await slot.prove(job)
        finally:
            self.busy -= 1
            self._free.put_nowait(slot)

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the provers that run."""
        return tuple(slot.pid for slot in self._slots if slot.pid is not None)

    async def stop(self) -> None:
        """End every process, whatever it is doing."""
        await asyncio.gather(*(slot.stop() for slot in self._slots))


def prover_command(keys_dir: Path, memory_limit: int) -> tuple[str, ...]:
    """How to start a prover process; `memory_limit` in bytes."""
    return (sys.executable, "-m", "worker.prover", str(keys_dir), str(memory_limit))


class _Slot:
    """One prover process at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._last_words: asyncio.Task[bytes] | None = None
        self._stopping = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process, if it does not run, and wait until it can prove; raises `PoolError`."""
        if self._process is not None and self._process.returncode is None:
            return
        await self.stop()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise PoolError(f"{self._command[0]}: cannot be started: {error.strerror}") from None
        self._last_words = asyncio.create_task(_tail(_pipe(self._process.stderr)))
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                frame = await frames.receive(_pipe(self._process.stdout))
        except TimeoutError:
            await self.stop()
            raise PoolError(f"a prover process was not ready within {_START_LIMIT_S:g} s") from None
        except asyncio.IncompleteReadError:
            why = await self._why_it_never_began()
            await self.stop()
            raise PoolError(why) from None
        except asyncio.CancelledError:
            await self.stop()
            raise
        if "broken" in frame:
            await self.stop()
            raise PoolError(str(frame["broken"]))

    async def prove(self, job: Job) -> FinishedProof:
        """Raises `ProvingFailed`; the process is gone after anything but an orderly answer."""
        request = _request(job)
        try:
            await self.start()
        except PoolError as error:
            raise ProvingFailed("prover_failed", str(error)) from None
        try:
            async with asyncio.timeout(job.time_limit):
                answer = await self._ask(request)
        except TimeoutError:
            await self.stop()
            raise ProvingFailed("timeout", f"no proof within {job.time_limit:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            failure = await self._cause_of_death()
            await self.stop()
            raise failure from None
        except asyncio.CancelledError:
            await self.stop()
            raise
        if "proof" not in answer:
            if answer["spent"]:
                await self.stop()
            raise ProvingFailed(answer["code"], answer["message"], retryable=answer["retryable"])
        return FinishedProof(job.id, bytes.fromhex(answer["proof"]), answer["proving_ms"])

    async def _ask(self, request: bytes) -> frames.Frame:
        process = self._process
        if process is None or process.stdin is None:
            raise ConnectionError
        process.stdin.write(request)
        await process.stdin.drain()
        return await frames.receive(_pipe(process.stdout))

    async def stop(self) -> None:
        """Kill the process, if there is one; it has gone when this returns, whoever else stops it too."""
        async with self._stopping:
            if self._process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            if self._last_words is not None:
                await self._last_words
            with contextlib.suppress(RuntimeError):  # a proof that is being waited for reads to the end itself
                await _pipe(self._process.stdout).read()
            self._process = None

    async def _why_it_never_began(self) -> str:
        if self._process is None or self._last_words is None:
            return "a prover process was stopped"
        code = await self._process.wait()
        words = await self._last_words
        if _RUST_OUT_OF_MEMORY in words:
            return "memory_limit: is too small to load the proving keys: raise it"
        # Nothing private was given to it yet, so its last words may be repeated.
        lines = words.decode(errors="replace").strip().splitlines()
        return f"a prover process ended before it was ready: {lines[-1] if lines else _end(code)}"

    async def _cause_of_death(self) -> ProvingFailed:
        if self._process is None or self._last_words is None:
            return ProvingFailed("prover_failed", "the prover process is gone")
        code = await self._process.wait()
        if _RUST_OUT_OF_MEMORY in await self._last_words:
            return ProvingFailed("out_of_memory", _OUT_OF_MEMORY)
        return ProvingFailed("prover_failed", f"the prover process {_end(code)}")


def _request(job: Job) -> bytes:
    try:
        inputs = job.inputs.decode()
    except UnicodeDecodeError:
        raise ProvingFailed("invalid_inputs", "inputs: are not JSON text", retryable=False) from None
    return frames.encode({"circuit": job.circuit, "inputs": inputs, "public_inputs": list(job.public_inputs)})


def _environment() -> Mapping[str, str]:
    """The agent's, but for its settings, and so that this very code is found wherever it was started."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WORKER_")}
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (here, inherited.get("PYTHONPATH"))))
    return {**inherited, "PYTHONPATH": path}


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """The end of what is said, read until the speaker is gone."""
    tail = b""
    while chunk := await stream.read(_STDERR_BYTES):
        tail = (tail + chunk)[-_STDERR_BYTES:]
    return tail


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ConnectionError
    return stream


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    name = signal.Signals(-code).name
    hint = " (the kernel does that when memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
