"""The one error of the local cluster; its text is one line that says what to do next."""


class LocalClusterError(Exception):
    """The local cluster could not be started, stopped or asked."""
