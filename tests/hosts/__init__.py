"""Faults that only a whole machine can have. These tests need root, and skip with the reason where it is missing."""
