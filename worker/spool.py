"""On-disk store of finished proofs, from their creation until a leader has acknowledged them.

One file per proof, written under a temporary name, synced and renamed, with a sync of the directory: after a crash a
proof is complete or absent. A checksum detects other damage. Proofs are not secret; the files are 0600 because no
other user needs them.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError

from worker.errors import SpoolError
from worker.job import AttemptId, FinishedProof
from zkp.protocol.v1 import coordinator_pb2 as pb

log = logging.getLogger("zkp.worker")

_SUFFIX = ".proof"
_LOCK = "lock"
_DIGEST_BYTES = 32


class ProofStore(Protocol):
    """Storage of finished proofs."""

    async def put(self, finished: FinishedProof) -> None:
        """Store a proof durably.

        Raises:
            SpoolError: The proof cannot be stored.
        """
        ...

    async def remove(self, attempt: AttemptId) -> None:
        """Remove an attempt's proof, if it exists."""
        ...


class Spool:
    """The directory `path`, locked by this process while it is open."""

    def __init__(self, path: Path, *, limit: int = 4096) -> None:
        """Open the directory; create it if it does not exist.

        Args:
            path: The directory.
            limit: Maximum number of stored proofs.

        Raises:
            SpoolError: The directory is unusable or locked by another process.
        """
        self._path = path
        self._limit = limit
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise SpoolError(f"{path}: in use by another worker; give each worker its own data_dir") from None

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def load(self) -> list[FinishedProof]:
        """Return all proofs that an earlier process left, in order of file names.

        Damaged files are renamed.
        """
        found = []
        try:
            paths = sorted(self._path.iterdir())
        except OSError as error:
            raise _unusable(self._path, error) from None
        for path in paths:
            if path.suffix == ".new":
                path.unlink(missing_ok=True)  # a write interrupted by a crash
            elif path.suffix == _SUFFIX:
                finished = _read(path)
                if finished is None:
                    path.rename(path.with_suffix(".damaged"))
                    log.warning("spooled proof is damaged and renamed to *.damaged; delete it: %s", path)
                else:
                    found.append(finished)
        return found

    async def put(self, finished: FinishedProof) -> None:
        """Store a proof durably; see `ProofStore.put`."""
        await asyncio.to_thread(self._write, finished)

    async def remove(self, attempt: AttemptId) -> None:
        """Remove an attempt's proof; see `ProofStore.remove`."""
        # Not synced: a proof that reappears after a crash is reported again, and removed when the leader refuses it.
        await asyncio.to_thread(self._file(attempt).unlink, missing_ok=True)

    def _file(self, attempt: AttemptId) -> Path:
        # Clients choose task ids, so the file name is a digest.
        name = hashlib.sha256(f"{attempt.attempt}:{attempt.task_id}".encode()).hexdigest()
        return self._path / f"{name}{_SUFFIX}"

    def _write(self, finished: FinishedProof) -> None:
        final = self._file(finished.id)
        fresh = final.with_suffix(".new")
        try:
            if sum(1 for path in self._path.iterdir() if path.suffix == _SUFFIX) >= self._limit:
                raise SpoolError(f"{self._path}: holds {self._limit} unacknowledged proofs; start the coordinators")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(_encode(finished))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(final)
            _sync_directory(self._path)
        except OSError as error:
            raise _unusable(self._path, error) from None


def _encode(finished: FinishedProof) -> bytes:
    body = pb.CompletionReport(
        task_id=finished.id.task_id,
        attempt=finished.id.attempt,
        proof=finished.proof,
        proving_ms=finished.proving_ms,
    ).SerializeToString()
    return hashlib.sha256(body).digest() + body


def _read(path: Path) -> FinishedProof | None:
    try:
        data = path.read_bytes()
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            return None
        report = pb.CompletionReport.FromString(body)
    except (OSError, DecodeError):
        return None
    return FinishedProof(AttemptId(report.task_id, report.attempt), report.proof, report.proving_ms)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> SpoolError:
    return SpoolError(f"{path}: {error.strerror}; make it writable for the worker's user and free disk space")
