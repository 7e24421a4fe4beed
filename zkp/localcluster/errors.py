"""The error of the local cluster; its message is one line that says what to do."""


class LocalClusterError(Exception):
    """The local cluster could not be started, stopped or queried."""
