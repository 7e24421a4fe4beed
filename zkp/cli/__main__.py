"""The `zkp` command, also as `python -m zkp.cli`."""

from typing import Never

from zkp.commandline import launch


def main() -> Never:
    """Run the console command."""
    launch("zkp.cli.app:run", "zkp", extra="all")


if __name__ == "__main__":
    main()
