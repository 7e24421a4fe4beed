#!/usr/bin/env bash
# pysyncobj: importing it replaces socket.inet_ntop, on Linux too, by a function that only works on Windows.
#
# Guess:     the module win_inet_pton supplies what Windows lacks and leaves other systems alone, as it does for
#            inet_pton.
# Found:     socket.inet_ntop is replaced on every system. Any later call in the process raises TypeError; psutil makes
#            one when it shows an IPv6 connection.
# Versions:  pysyncobj 0.3.17, Python 3.11, Linux.
# Seen:      TypeError: not_windows() takes 0 positional arguments but 5 were given
# Matters:   a coordinator that talks IPv6 fails in unrelated code. coordinator/raft/engine.py puts the function back.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pysyncobj==0.3.17
"$work/venv/bin/python" - <<'PYTHON'
import socket

packed = socket.inet_pton(socket.AF_INET6, "::1")
assert socket.inet_ntop(socket.AF_INET6, packed) == "::1"

import pysyncobj

assert socket.inet_pton(socket.AF_INET6, "::1") == packed
try:
    raise SystemExit(f"it works: {socket.inet_ntop(socket.AF_INET6, packed)}; the behaviour has changed")
except TypeError as error:
    print(f"TypeError: {error}")
PYTHON
