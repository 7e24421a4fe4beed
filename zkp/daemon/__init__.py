"""Parts common to all daemons: logging, life cycle, HTTPS for health and metrics, checks at startup."""
