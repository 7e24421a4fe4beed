"""Soft state that only the leader has: it begins with leadership and is discarded with it."""
