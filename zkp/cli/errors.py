"""Errors of the `zkp` command: usage errors and failures."""

import typer


class UsageProblem(typer.TyperException):
    """The command line is invalid: exit status 2."""

    exit_code = 2


class CommandFailed(Exception):
    """The command failed: exit status 1. The message is one line."""
