"""The `pki` command: what is typed becomes an exit code, and every mistake one line."""

import sys
from collections.abc import Sequence

import typer

# each of these adds its commands to the app
from pki.commands import authority, check, inspect, issue, revoke  # noqa: F401
from pki.commands.common import app
from pki.errors import PkiError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (failed) or 2 (used wrongly)."""
    try:
        code = app(args=argv, prog_name="pki", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; see --help", error.exit_code)
    except PkiError as error:
        return _fail(str(error), 1)
    except OSError as error:  # what no room has put into its own words
        cure = ": run as the user that owns it" if isinstance(error, PermissionError) else ""
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}{cure}", 1)
    except typer.Abort:
        return _fail("stopped", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
