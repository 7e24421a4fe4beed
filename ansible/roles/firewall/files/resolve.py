"""The addresses of names, as this host resolves them: a JSON list of names in, JSON {name: [address, …]} out.

A name that cannot be resolved has none.
"""

import json
import socket
import sys


def addresses(name: str) -> list[str]:
    """Of IPv4 and IPv6, in an order that does not change."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


if __name__ == "__main__":
    json.dump({name: addresses(name) for name in json.load(sys.stdin)}, sys.stdout)
