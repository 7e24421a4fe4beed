"""`zkp`, also as `python -m zkp.cli`."""

import sys

from zkp.cli.app import run


def main() -> None:
    """The console command."""
    sys.exit(run())


if __name__ == "__main__":
    main()
