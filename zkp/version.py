"""The version of the installed distribution."""

from importlib import metadata

DISTRIBUTION = "zkp-network"


def version() -> str:
    """Return the distribution's version, or "unknown" where the code runs without being installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
