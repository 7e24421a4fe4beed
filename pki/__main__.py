"""The `pki` command, also as `python -m pki`."""

from typing import Never

from zkp.commandline import launch


def main() -> Never:
    """Run the console command."""
    launch("pki.cli:main", "pki", extra="pki")


if __name__ == "__main__":
    main()
