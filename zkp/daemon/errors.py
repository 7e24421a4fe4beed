"""What keeps a daemon from starting or going on: one line that names the cause and the cure."""


class DaemonError(Exception):
    """Base of this room's errors. `lifecycle.run` logs one as a line, not as a traceback."""


class ListenError(DaemonError):
    """An address on which this process cannot listen."""
