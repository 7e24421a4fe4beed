"""Memory that was freed goes back to the operating system, which glibc otherwise only does from the heap's end.

Each TLS connection leaves holes of many sizes in the heap; after a flood of them the process keeps its highest size.
"""

import ctypes


def give_back() -> None:
    """Return whole free pages of the heap; does nothing where the C library has no such call."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # musl
        return
    trim(0)
