"""Metrics, health and the log lines of each task."""
