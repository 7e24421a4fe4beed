"""Unit tests of the proofs room: pure Python and small files."""

from hypothesis import settings

# For property-based tests: the same examples in every run, and no clock.
repeatable = settings(deadline=None, derandomize=True)
