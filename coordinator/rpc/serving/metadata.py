"""Headers of a gRPC call: what a request asks for, and the encoding of metadata, deadlines and statuses."""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import grpc

from coordinator.rpc.http2.events import Headers

Metadata = Sequence[tuple[str, str | bytes]]

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_RESERVED = frozenset(
    (b"te", b"content-type", b"user-agent", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"host")
)
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_CONTENT_TYPE = b"application/grpc"
_ENCODINGS = frozenset((b"identity", b""))
_BINARY = "-bin"


class HttpError(Exception):
    """A request that is not gRPC, which is answered with an HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class BadRequestHead(Exception):
    """A gRPC request with an invalid header, which is answered with a gRPC status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a request say. `timeout_s` is None without a deadline."""

    method: str
    timeout_s: float | None
    headers: Headers

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the client's own metadata; values of names that end in "-bin" are bytes."""
        return tuple(
            (name.decode("ascii"), _decoded(name, value))
            for name, value in self.headers
            if name not in _RESERVED and not name.startswith(b":")
        )


def read_head(headers: Headers) -> RequestHead:
    """Check the headers of a request. Raises `HttpError`, `BadRequestHead`."""
    path, timeout, content_type, te, encoding, verb = b"", None, b"", b"", b"", b""
    for name, value in headers:
        if name == b":path":
            path = value
        elif name == b":method":
            verb = value
        elif name == b"content-type":
            content_type = value
        elif name == b"te":
            te = value
        elif name == b"grpc-timeout":
            timeout = value
        elif name == b"grpc-encoding":
            encoding = value
    if verb != b"POST":
        raise HttpError(405, "the method must be POST")
    if content_type != _CONTENT_TYPE and not content_type.startswith((_CONTENT_TYPE + b"+", _CONTENT_TYPE + b";")):
        raise HttpError(415, "the content type must be application/grpc")
    if te != b"trailers":
        raise HttpError(400, "the header te must be trailers")
    if encoding not in _ENCODINGS:
        raise BadRequestHead(
            grpc.StatusCode.UNIMPLEMENTED, "grpc-encoding: compression is not supported; send messages uncompressed"
        )
    return RequestHead(_method(path), None if timeout is None else _seconds(timeout), headers)


@lru_cache(maxsize=256)
def _method(path: bytes) -> str:
    return path.decode("ascii", "replace")


@lru_cache(maxsize=256)
def _seconds(timeout: bytes) -> float:
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        raise BadRequestHead(grpc.StatusCode.INTERNAL, "grpc-timeout: must be 1 to 8 digits and one of H M S m u n")
    return int(match[1]) * _UNIT_S[match[2]]


def encode_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Return metadata as header fields. Raises ValueError for what HTTP/2 cannot carry."""
    fields = []
    for name, value in metadata:
        if not _NAME.fullmatch(name) or name.startswith("grpc-"):
            raise ValueError(f"metadata key {name!r}: must be lower-case letters, digits and _ . -, and not grpc-…")
        if name.endswith(_BINARY):
            data = value.encode() if isinstance(value, str) else value
            fields.append((name.encode(), base64.b64encode(data).rstrip(b"=")))
        elif isinstance(value, bytes) or not _VALUE.fullmatch(value):
            raise ValueError(f"metadata {name}: the value must be printable ASCII; use a key that ends in -bin")
        else:
            fields.append((name.encode(), value.encode()))
    return fields


def encode_status(code: grpc.StatusCode, details: str) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a status; details are percent-encoded UTF-8."""
    fields = [(b"grpc-status", str(code.value[0]).encode())]
    if details:
        fields.append((b"grpc-message", _percent_encoded(details)))
    return fields


def _percent_encoded(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and text.isprintable() and b"%" not in raw:
        return raw
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte  # RFC 3986
        for byte in raw
    )


def _decoded(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(_BINARY.encode()):
        return value.decode("latin-1")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return b""
