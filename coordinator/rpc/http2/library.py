"""Declarations of libnghttp2's functions and structures, as its manual states them (nghttp2.h, soname 14).

ctypes and not cffi: cffi's callbacks need memory that is writable and executable, which the units' setting
MemoryDenyWriteExecute= forbids. `PyDLL` keeps the GIL during calls: they are short, and call back into Python.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_ssize_t, c_uint8, c_uint32, c_void_p
from functools import cache
from typing import Any

SONAME = "libnghttp2.so.14"
_MIN_VERSION, _MIN_VERSION_TEXT = 0x013400, "1.52.0"
_HARDENED_SINCE = "nghttp2_option_set_stream_reset_rate_limit"
"""Present in releases, and in Debian's older ones, that limit the rate of resets (CVE-2023-44487)."""
_FIX = "install it: apt install libnghttp2-14"

ERR_CALLBACK_FAILURE = -902
ERR_TEMPORAL_CALLBACK_FAILURE = -521
ERR_DEFERRED = -508
DATA_FLAG_EOF, DATA_FLAG_NO_END_STREAM = 1, 2
NV_FLAG_NO_COPY_NAME, NV_FLAG_NO_COPY_VALUE = 2, 4
FLAG_NONE = 0
FLAG_END_STREAM = FLAG_ACK = 1
FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_SETTINGS, FRAME_PING = 0, 1, 2, 4, 6
SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE = 3, 4
SETTINGS_MAX_FRAME_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE = 5, 6


class LibraryError(Exception):
    """libnghttp2 is missing or too old. The message is one line with the remedy."""


class HeaderField(ctypes.Structure):
    """nghttp2_nv."""

    _fields_ = (
        ("name", c_char_p),
        ("value", c_char_p),
        ("name_length", c_size_t),
        ("value_length", c_size_t),
        ("flags", c_uint8),
    )


class Setting(ctypes.Structure):
    """nghttp2_settings_entry."""

    _fields_ = (("id", c_int32), ("value", c_uint32))


class FrameHeader(ctypes.Structure):
    """nghttp2_frame_hd, with which every nghttp2_frame begins."""

    _fields_ = (("length", c_size_t), ("stream_id", c_int32), ("type", c_uint8), ("flags", c_uint8))


class _Info(ctypes.Structure):
    """nghttp2_info."""

    _fields_ = (("age", c_int), ("version", c_int), ("version_text", c_char_p), ("protocol", c_char_p))


# The last argument of each callback is the user data of its session, here a number; NULL arrives as None.
OnBeginHeaders = ctypes.PYFUNCTYPE(c_int, c_void_p, POINTER(FrameHeader), c_void_p)
OnHeader = ctypes.PYFUNCTYPE(
    c_int, c_void_p, POINTER(FrameHeader), c_void_p, c_size_t, c_void_p, c_size_t, c_uint8, c_void_p
)
OnFrame = ctypes.PYFUNCTYPE(c_int, c_void_p, POINTER(FrameHeader), c_void_p)
OnDataChunk = ctypes.PYFUNCTYPE(c_int, c_void_p, c_uint8, c_int32, c_void_p, c_size_t, c_void_p)
OnStreamClose = ctypes.PYFUNCTYPE(c_int, c_void_p, c_int32, c_uint32, c_void_p)
ReadData = ctypes.PYFUNCTYPE(c_ssize_t, c_void_p, c_int32, c_void_p, c_size_t, POINTER(c_uint32), c_void_p, c_void_p)


class DataProvider(ctypes.Structure):
    """nghttp2_data_provider; `source` is not used."""

    _fields_ = (("source", c_void_p), ("read", ReadData))


_STATUS_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "nghttp2_session_callbacks_new": (POINTER(c_void_p),),
    "nghttp2_option_new": (POINTER(c_void_p),),
    "nghttp2_session_server_new2": (POINTER(c_void_p), c_void_p, c_void_p, c_void_p),
    "nghttp2_session_want_read": (c_void_p,),
    "nghttp2_session_consume": (c_void_p, c_int32, c_size_t),
    "nghttp2_session_resume_data": (c_void_p, c_int32),
    "nghttp2_session_set_local_window_size": (c_void_p, c_uint8, c_int32, c_int32),
    "nghttp2_session_get_last_proc_stream_id": (c_void_p,),
    "nghttp2_submit_settings": (c_void_p, c_uint8, POINTER(Setting), c_size_t),
    "nghttp2_submit_response": (c_void_p, c_int32, POINTER(HeaderField), c_size_t, c_void_p),
    "nghttp2_submit_trailer": (c_void_p, c_int32, POINTER(HeaderField), c_size_t),
    "nghttp2_submit_rst_stream": (c_void_p, c_uint8, c_int32, c_uint32),
    "nghttp2_submit_ping": (c_void_p, c_uint8, c_void_p),
    "nghttp2_submit_goaway": (c_void_p, c_uint8, c_int32, c_uint32, c_char_p, c_size_t),
    "nghttp2_session_terminate_session": (c_void_p, c_uint32),
}
_LENGTH_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "nghttp2_session_mem_recv": (c_void_p, c_void_p, c_size_t),
    "nghttp2_session_mem_send": (c_void_p, POINTER(c_void_p)),
}
_VOID_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "nghttp2_session_del": (c_void_p,),
    "nghttp2_option_set_no_auto_window_update": (c_void_p, c_int),
    "nghttp2_option_set_no_closed_streams": (c_void_p, c_int),
    "nghttp2_option_set_max_outbound_ack": (c_void_p, c_size_t),
    "nghttp2_option_set_stream_reset_rate_limit": (c_void_p, ctypes.c_uint64, ctypes.c_uint64),
    "nghttp2_session_callbacks_set_on_begin_headers_callback": (c_void_p, OnBeginHeaders),
    "nghttp2_session_callbacks_set_on_header_callback": (c_void_p, OnHeader),
    "nghttp2_session_callbacks_set_on_invalid_header_callback": (c_void_p, OnHeader),
    "nghttp2_session_callbacks_set_on_frame_recv_callback": (c_void_p, OnFrame),
    "nghttp2_session_callbacks_set_on_data_chunk_recv_callback": (c_void_p, OnDataChunk),
    "nghttp2_session_callbacks_set_on_stream_close_callback": (c_void_p, OnStreamClose),
}


def check_library() -> None:
    """Raise `LibraryError` if libnghttp2 is missing or too old."""
    load()


@cache
def load() -> ctypes.PyDLL:
    """Return the library with its functions declared. Raises `LibraryError`."""
    library = _open(SONAME)
    for result, functions in (
        (c_int, _STATUS_FUNCTIONS),
        (c_ssize_t, _LENGTH_FUNCTIONS),
        (None, _VOID_FUNCTIONS),
    ):
        for name, arguments in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    library.nghttp2_strerror.restype, library.nghttp2_strerror.argtypes = c_char_p, (c_int,)
    return library


def _open(name: str, dll: Callable[[str], ctypes.PyDLL] = ctypes.PyDLL) -> ctypes.PyDLL:
    try:
        library = dll(name)
    except OSError:
        raise LibraryError(f"{name} is not installed; {_FIX}") from None
    library.nghttp2_version.restype, library.nghttp2_version.argtypes = POINTER(_Info), (c_int,)
    info = library.nghttp2_version(0).contents
    version = info.version_text.decode("ascii", "replace")
    if info.version < _MIN_VERSION:
        raise LibraryError(f"{name} is version {version}, and must be at least {_MIN_VERSION_TEXT}; {_FIX}")
    if not hasattr(library, _HARDENED_SINCE):
        raise LibraryError(f"{name} {version} does not limit stream resets (CVE-2023-44487); {_FIX}")
    return library
