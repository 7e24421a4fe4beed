#!/usr/bin/env bash
# cffi, systemd: callbacks of cffi's ABI mode do not work under MemoryDenyWriteExecute=yes; those of ctypes do.
#
# Guess:     ctypes and cffi both make callbacks with libffi, so that a hardened unit forbids both or neither; and cffi is
#            the more careful of the two.
# Found:     cffi's wheel makes each callback in memory that is writable and executable at once, and raises MemoryError
#            where that is forbidden. ctypes with Debian's libffi 3.4 uses static trampolines and works.
# Versions:  cffi 2.1.1 (wheel of PyPI), Python 3.11, libffi 3.4.4 (Debian 12), Linux 6.3 or later (PR_SET_MDWE).
# Seen:      MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a system that
#            prevents this.
# Matters:   all units here have MemoryDenyWriteExecute=yes, and coordinators call libnghttp2, which calls back.
set -euo pipefail
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check cffi==2.1.1

"$venv/bin/python" - <<'PYTHON'
import ctypes
import sys

import cffi

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("this kernel has no PR_SET_MDWE: Linux 6.3 or later is needed")

compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 3)(3, 1, 2)
libc.qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), compare(lambda a, b: a[0] - b[0]))
if list(numbers) != [1, 2, 3]:
    sys.exit("a ctypes callback no longer works: the behaviour has changed")
print("ctypes: the callback works")

ffi = cffi.FFI()
try:
    ffi.callback("int(int)", lambda number: number)
except MemoryError as error:
    print(f"cffi: MemoryError: {error}")
else:
    sys.exit("cffi makes the callback: the behaviour has changed")
PYTHON
