"""Errors of the worker: one line with the file or process and the remedy."""

from zkp.daemon.errors import DaemonError


class WorkerError(DaemonError):
    """Base of errors that prevent a worker from starting or continuing."""


class SpoolError(WorkerError):
    """The spool directory is unusable."""


class PoolError(WorkerError):
    """A prover process cannot start."""


class KeysError(WorkerError):
    """No usable proving keys exist."""
