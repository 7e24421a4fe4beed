"""What every daemon does alike: logs, life cycle, HTTPS for health and metrics, first checks."""
