"""Errors that stop a daemon: one line with the cause and what to do."""


class DaemonError(Exception):
    """Base of this package's errors. `lifecycle.run` logs them as one line, without a traceback."""


class ListenError(DaemonError):
    """An address on which this process cannot listen."""
