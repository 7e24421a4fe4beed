"""libnghttp2 as the system has it, or not."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.rpc.http2 import LibraryError, check_library, library


class Function:
    """Something that takes the attributes of a ctypes function."""

    def __init__(self, result: object = None) -> None:
        self._result = result

    def __call__(self, *_: object) -> object:
        return self._result


def stand_in(version: int, text: bytes, **functions: Any) -> Any:
    info = SimpleNamespace(contents=SimpleNamespace(version=version, version_text=text))
    return SimpleNamespace(nghttp2_version=Function(info), **functions)


def test_the_library_of_this_system_is_good() -> None:
    """Every function that is declared exists."""
    check_library()
    assert isinstance(library.load(), ctypes.PyDLL)


def test_a_missing_library_names_the_package() -> None:
    """One line, with the command."""
    with pytest.raises(LibraryError, match=r"^libnghttp2-none\.so is not installed; install it: apt install "):
        library._open("libnghttp2-none.so")


def test_an_old_library_is_refused() -> None:
    """By its version."""
    with pytest.raises(LibraryError, match=r"is version 1\.43\.0, and must be at least 1\.52\.0; .*apt install"):
        library._open("old", lambda _: stand_in(0x012B00, b"1.43.0"))


def test_a_library_without_the_limit_of_resets_is_refused() -> None:
    """Releases before 1.57 have it only where a distribution has added it."""
    with pytest.raises(LibraryError, match="does not limit stream resets"):
        library._open("unpatched", lambda _: stand_in(0x013400, b"1.52.0"))
    patched = stand_in(0x013400, b"1.52.0", nghttp2_option_set_stream_reset_rate_limit=Function())
    assert library._open("patched", lambda _: patched) is patched
