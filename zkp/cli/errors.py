"""What a user did wrong on the command line, and what went wrong after it was understood."""

import typer


class UsageProblem(typer.TyperException):
    """The command was used wrongly: exit status 2."""

    exit_code = 2


class CommandFailed(Exception):
    """The command was understood and did not succeed: exit status 1. One line."""
