#!/usr/bin/env bash
# libnghttp2: a server session that has sent GOAWAY and has no open stream reports no frame any more, PING answers included.
#
# Guess:     after a graceful GOAWAY a server can send a PING and wait for its acknowledgement before it closes the
#            connection, as gRPC's own servers do; the session reports the frame as always.
# Found:     while a stream is open the acknowledgement is reported. Without one, nghttp2_session_mem_recv returns the
#            whole length, calls nothing, and nghttp2_session_want_read is 0, although the connection is still open.
# Versions:  libnghttp2 1.52.0 (Debian 12, libnghttp2-14), Python 3.11.
# Seen:      with an open stream: on_frame_recv for PING (type 6); without: nothing
# Matters:   the coordinator's gRPC server closes a drained connection when its last PING is answered, which is the only
#            sign that the client has read the last answer. It looks for the frame in the ignored bytes.
#
# Needs the package libnghttp2-14. Nothing is installed.
set -euo pipefail
python3 - <<'PYTHON'
import ctypes
import sys

try:
    lib = ctypes.PyDLL("libnghttp2.so.14")
except OSError:
    sys.exit("apt install libnghttp2-14")
P, I, S = ctypes.c_void_p, ctypes.c_int, ctypes.c_ssize_t


class Header(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("stream", ctypes.c_int32), ("type", ctypes.c_uint8), ("flags", ctypes.c_uint8))


OnFrame = ctypes.PYFUNCTYPE(I, P, ctypes.POINTER(Header), P)
lib.nghttp2_session_mem_recv.restype = lib.nghttp2_session_mem_send.restype = S
lib.nghttp2_session_mem_recv.argtypes = (P, ctypes.c_char_p, ctypes.c_size_t)


def frame(kind, flags=0, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def types_after_goaway(stream_open):
    seen = []
    on_frame = OnFrame(lambda _, header, __: seen.append(header[0].type) or 0)
    callbacks, session = P(), P()
    lib.nghttp2_session_callbacks_new(ctypes.byref(callbacks))
    lib.nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame)
    lib.nghttp2_session_server_new(ctypes.byref(session), callbacks, None)
    lib.nghttp2_submit_settings(session, 0, None, 0)
    # :method POST, :scheme https, :path /, :authority x (RFC 7541, appendix A)
    request = frame(1, 4, 1, bytes((0x83, 0x87, 0x84, 0x41, 1)) + b"x") if stream_open else b""
    received = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4) + frame(4, 1) + request

    def send():
        data = P()
        while lib.nghttp2_session_mem_send(session, ctypes.byref(data)) > 0:
            pass

    assert lib.nghttp2_session_mem_recv(session, received, len(received)) == len(received)
    lib.nghttp2_submit_goaway(session, 0, 1, 0, None, 0)
    lib.nghttp2_submit_ping(session, 0, ctypes.c_char_p(b"12345678"))
    send()
    seen.clear()
    answer = frame(6, 1, 0, b"12345678")
    assert lib.nghttp2_session_mem_recv(session, answer, len(answer)) == len(answer)
    return seen


found = types_after_goaway(True), types_after_goaway(False)
print(f"frames reported after GOAWAY, with an open stream: {found[0]}; without: {found[1]}")
sys.exit(found != ([6], []))
PYTHON
