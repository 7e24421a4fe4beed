"""The one error of the test hosts; its text is one line that says what to do next."""


class HostsError(Exception):
    """Hosts could not be made, reached or taken away."""
