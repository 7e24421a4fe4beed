"""The `zkp-worker` command, also as `worker` and `python -m worker`."""

from typing import Never

from zkp.commandline import launch


def main() -> Never:
    """Run the console command."""
    launch("worker.cli:main", "zkp-worker", extra="worker")


if __name__ == "__main__":
    main()
