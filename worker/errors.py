"""Every error of this room: one line that names the file or the process and says the cure."""

from zkp.daemon.errors import DaemonError


class WorkerError(DaemonError):
    """Base of what keeps a worker from starting or going on."""


class SpoolError(WorkerError):
    """The spool's directory cannot be used."""


class PoolError(WorkerError):
    """Prover processes cannot start."""


class KeysError(WorkerError):
    """There is nothing that this worker could prove."""
