"""`zkp`, also as `python -m client`."""

import sys

from client.cli.app import run


def main() -> None:
    """The console command."""
    sys.exit(run())


if __name__ == "__main__":
    main()
