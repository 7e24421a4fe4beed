"""The `zkp-gateway` command, also as `gateway` and `python -m gateway`."""

from typing import Never

from zkp.commandline import launch


def main() -> Never:
    """Run the console command."""
    launch("gateway.cli:main", "zkp-gateway", extra="gateway")


if __name__ == "__main__":
    main()
