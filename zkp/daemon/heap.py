"""Return of freed memory to the operating system; glibc by itself only returns memory at the end of the heap.

TLS connections fragment the heap, so that after many of them the process would keep its maximum size.
"""

import ctypes


def trim_heap() -> None:
    """Return free pages of the heap to the operating system, if the C library supports it."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # musl
        return
    trim(0)
