"""Whole clusters in one thread and virtual time: our real node over a disk and a network that fail on purpose.

Everything random comes from one seed, so that a failure is replayed from its number.
"""
