#!/usr/bin/env bash
# grpcio: a server bound to 0.0.0.0 listens on IPv6 as well.
#
# Guess:     0.0.0.0:PORT is the IPv4 wildcard, as for every other server; [::]:PORT would be needed for IPv6.
# Found:     add_insecure_port("0.0.0.0:0") accepts connections to ::1. asyncio's and the kernel's 0.0.0.0 does not.
# Versions:  grpcio 1.85.1, Python 3.11, Linux with IPv6.
# Seen:      gRPC on 0.0.0.0, dialled at ::1: accepted; a plain socket on 0.0.0.0, dialled at ::1: refused
# Matters:   on a host with IPv6 the gRPC port is open on IPv6 in an inventory of IPv4 addresses alone, and a firewall
#            that has rules for IPv4 only would not cover it. The nftables rules of the firewall role cover both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
"$work/venv/bin/python" - <<'PYTHON'
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc


def dialled(port: int) -> str:
    try:
        socket.create_connection(("::1", port), timeout=5).close()
    except ConnectionRefusedError:
        return "refused"
    return "accepted"


server = grpc.server(ThreadPoolExecutor(1))
port = server.add_insecure_port("0.0.0.0:0")
server.start()
plain = socket.create_server(("0.0.0.0", 0))
by_grpc, by_socket = dialled(port), dialled(plain.getsockname()[1])
print(f"gRPC on 0.0.0.0, dialled at ::1: {by_grpc}; a plain socket on 0.0.0.0, dialled at ::1: {by_socket}")
assert (by_grpc, by_socket) == ("accepted", "refused"), "the behaviour has changed"
server.stop(None)
PYTHON
