"""Unit tests of the Raft room: a disk that forgets, a clock that is told the time, no sockets."""

from hypothesis import settings

# For property-based tests: the same examples in every run, and no clock.
repeatable = settings(deadline=None, derandomize=True, database=None)
