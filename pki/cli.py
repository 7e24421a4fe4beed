"""The `pki` command: every subcommand, and errors as one line."""

from collections.abc import Sequence

# each of these adds its commands to the app
from pki.commands import authority, check, inspect, issue, revoke  # noqa: F401
from pki.commands.common import app
from pki.errors import PkiError
from zkp import commandline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return commandline.run(app, "pki", arguments, failures=(PkiError, OSError), describe=_sentence)


def _sentence(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    cure = ": run as the user that owns it" if isinstance(error, PermissionError) else ""
    return f"{error.filename or 'output'}: {error.strerror or error}{cure}"
