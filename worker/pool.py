"""Pool of prover processes, one per slot, so that a crash affects only one attempt.

A process that crashed, was killed, exceeded its memory or time limit, or works on a cancelled attempt is killed, and
replaced when its slot is next needed. The output of a process is never logged: it might contain private inputs.
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

_START_TIMEOUT_S = 120.0  # large proving keys load slowly from a slow disk
_STDERR_BYTES = 4096
_RUST_OUT_OF_MEMORY = b"memory allocation of"  # printed by Rust before it aborts
_OUT_OF_MEMORY = "the proof exceeds the worker's memory_limit"


class Pool(Protocol):
    """Proves jobs."""

    async def prove(self, job: Job) -> FinishedProof:
        """Return a verified proof; cancelling the call ends the attempt at once.

        Raises:
            ProvingFailed: There is no proof.
        """
        ...


class ProverPool:
    """`slots` processes, each started with `command`."""

    def __init__(self, command: Sequence[str], slots: int) -> None:
        self._slots = [_Slot(command) for _ in range(slots)]
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self.busy = 0
        """Number of running proofs."""

    async def start(self) -> None:
        """Start all processes and wait until they have loaded their keys.

        Raises:
            PoolError: A process cannot start.
        """
        await asyncio.gather(*(slot.start() for slot in self._slots))
        for slot in self._slots:
            self._free.put_nowait(slot)

    async def prove(self, job: Job) -> FinishedProof:
        """Wait for a free slot, then prove; see `Pool`. Within its capacity a worker always has a free slot."""
        slot = await self._free.get()
        self.busy += 1
        try:
            return await slot.prove(job)
        finally:
            self.busy -= 1
            self._free.put_nowait(slot)

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the running provers."""
        return tuple(slot.pid for slot in self._slots if slot.pid is not None)

    async def stop(self) -> None:
        """Kill all processes."""
        await asyncio.gather(*(slot.stop() for slot in self._slots))


def prover_command(keys_dir: Path, memory_limit: int) -> tuple[str, ...]:
    """Return the command line of a prover process; `memory_limit` in bytes."""
    return (sys.executable, "-m", "worker.prover", str(keys_dir), str(memory_limit))


class _Slot:
    """One prover process at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._stderr_tail: asyncio.Task[bytes] | None = None
        self._stopping = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process if it is not running, and wait until it is ready.

        Raises:
            PoolError: The process cannot start.
        """
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
            raise PoolError(
                f"{self._command[0]}: cannot be started: {error.strerror}; check the installation"
            ) from None
        self._stderr_tail = asyncio.create_task(_read_tail(_pipe(self._process.stderr)))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                frame = await frames.receive(_pipe(self._process.stdout))
        except TimeoutError:
            await self.stop()
            raise PoolError(
                f"prover process: not ready within {_START_TIMEOUT_S:g} s; check the disk of keys_dir"
            ) from None
        except asyncio.IncompleteReadError:
            why = await self._startup_failure()
            await self.stop()
            raise PoolError(why) from None
        except asyncio.CancelledError:
            await self.stop()
            raise
        if "startup_error" in frame:
            await self.stop()
            raise PoolError(str(frame["startup_error"]))

    async def prove(self, job: Job) -> FinishedProof:
        """Return the proof of a job; after anything but an answer of the process, the process is killed.

        Raises:
            ProvingFailed: There is no proof.
        """
        request = _encode_job(job)
        try:
            await self.start()
        except PoolError as error:
            raise ProvingFailed("prover_failed", str(error)) from None
        try:
            async with asyncio.timeout(job.time_limit):
                answer = await self._exchange(request)
        except TimeoutError:
            await self.stop()
            raise ProvingFailed("timeout", f"no proof within {job.time_limit:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            failure = await self._exit_failure()
            await self.stop()
            raise failure from None
        except asyncio.CancelledError:
            await self.stop()
            raise
        if "proof" not in answer:
            if answer["restart"]:
                await self.stop()
            raise ProvingFailed(answer["code"], answer["message"], retryable=answer["retryable"])
        return FinishedProof(job.id, bytes.fromhex(answer["proof"]), answer["proving_ms"])

    async def _exchange(self, request: bytes) -> frames.Frame:
        process = self._process
        if process is None or process.stdin is None:
            raise ConnectionError
        process.stdin.write(request)
        await process.stdin.drain()
        return await frames.receive(_pipe(process.stdout))

    async def stop(self) -> None:
        """Kill the process, if any, and wait until it has exited; concurrent calls are safe."""
        async with self._stopping:
            if self._process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            if self._stderr_tail is not None:
                await self._stderr_tail
            with contextlib.suppress(RuntimeError):  # the call that waits for the proof reads to the end itself
                await _pipe(self._process.stdout).read()
            self._process = None

    async def _startup_failure(self) -> str:
        if self._process is None or self._stderr_tail is None:
            return "prover process: stopped"
        code = await self._process.wait()
        stderr = await self._stderr_tail
        if _RUST_OUT_OF_MEMORY in stderr:
            return "memory_limit: too small to load the proving keys; increase it"
        # It has received no private input yet, so its output may be shown.
        lines = stderr.decode(errors="replace").strip().splitlines()
        return f"prover process: exited before it was ready: {lines[-1] if lines else _describe_exit(code)}"

    async def _exit_failure(self) -> ProvingFailed:
        if self._process is None or self._stderr_tail is None:
            return ProvingFailed("prover_failed", "prover process: exited")
        code = await self._process.wait()
        if _RUST_OUT_OF_MEMORY in await self._stderr_tail:
            return ProvingFailed("out_of_memory", _OUT_OF_MEMORY)
        return ProvingFailed("prover_failed", f"prover process: {_describe_exit(code)}")


def _encode_job(job: Job) -> bytes:
    try:
        inputs = job.inputs.decode()
    except UnicodeDecodeError:
        raise ProvingFailed("invalid_inputs", "inputs: not valid UTF-8", retryable=False) from None
    return frames.encode({"circuit": job.circuit, "inputs": inputs, "public_inputs": list(job.public_inputs)})


def _environment() -> Mapping[str, str]:
    """Return the agent's environment without its settings, with this package on the module path."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WORKER_")}
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (here, inherited.get("PYTHONPATH"))))
    return {**inherited, "PYTHONPATH": path}


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end; return the last bytes."""
    tail = b""
    while chunk := await stream.read(_STDERR_BYTES):
        tail = (tail + chunk)[-_STDERR_BYTES:]
    return tail


def _pipe(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ConnectionError
    return stream


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    name = signal.Signals(-code).name
    hint = " (sent by the kernel when memory runs out)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
