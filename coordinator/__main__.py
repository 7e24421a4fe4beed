"""The `zkp-coordinator` command, also as `coordinator` and `python -m coordinator`."""

from typing import Never

from zkp.commandline import launch


def main() -> Never:
    """Run the console command."""
    launch("coordinator.cli:main", "zkp-coordinator", extra="coordinator")


if __name__ == "__main__":
    main()
