"""What a simulation ends with when a promise was broken."""


class Violation(AssertionError):
    """Something happened that must never happen."""
