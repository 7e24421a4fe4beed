"""HTTP/2 for servers: libnghttp2 behind a sans-IO interface. Received bytes become events; answers become bytes."""

from coordinator.rpc.http2.events import (
    DataReceived,
    Event,
    PingReceived,
    RequestReceived,
    RequestRejected,
    StreamClosed,
    StreamEnded,
)
from coordinator.rpc.http2.library import LibraryError, check_library
from coordinator.rpc.http2.session import ErrorCode, Http2Error, Http2Session

__all__ = [
    "DataReceived",
    "ErrorCode",
    "Event",
    "Http2Error",
    "Http2Session",
    "LibraryError",
    "PingReceived",
    "RequestReceived",
    "RequestRejected",
    "StreamClosed",
    "StreamEnded",
    "check_library",
]
