"""Lines of libraries in C, as log records."""

import logging

import pytest

from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.native_stderr import record

_PLACE = "I1130 22:40:09.852578   29855 ssl_transport_security.cc:2563] "
_FAILED = "Handshake failed with error SSL_ERROR_SSL: error:1000009c:SSL routines:OPENSSL_internal:"


def logged(caplog: pytest.LogCaptureFixture, *lines: str) -> list[tuple[str, str]]:
    """Level and words of what becomes of the lines."""
    bounded = BoundedLog(logging.getLogger("zkp.grpc"), lambda: 0.0)
    with caplog.at_level(logging.DEBUG):
        for line in lines:
            record(line, bounded)
    return [(one.levelname, one.getMessage()) for one in caplog.records]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE: Invalid context", "the peer showed no certificate, or"),
        ("HTTP_REQUEST: Invalid certificate verification context", "the peer speaks plain HTTP"),
        (
            "CERTIFICATE_VERIFY_FAILED: certificate has expired",
            "the peer's certificate does not verify (certificate has expired)",
        ),
        ("SOMETHING_NEW: unheard of", "SOMETHING_NEW"),
    ],
)
def test_a_refused_handshake_is_a_warning_with_its_reason(
    caplog: pytest.LogCaptureFixture, reason: str, words: str
) -> None:
    """Whatever severity gRPC gives it."""
    ((level, message),) = logged(caplog, _PLACE + _FAILED + reason)
    assert level == "WARNING"
    assert message.startswith(f"refused a gRPC connection: {words}")


def test_other_lines_keep_their_words(caplog: pytest.LogCaptureFixture) -> None:
    """gRPC's information stays information, its warnings and everything else are warnings."""
    assert logged(caplog, _PLACE + "started", "W" + _PLACE[1:] + "odd", "Fatal: out of luck") == [
        ("INFO", "started (ssl_transport_security.cc:2563)"),
        ("WARNING", "odd (ssl_transport_security.cc:2563)"),
        ("WARNING", "Fatal: out of luck"),
    ]


def test_strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty refusals in ten seconds are written, however many there are."""
    assert len(logged(caplog, *[_PLACE + _FAILED + "HTTP_REQUEST: x"] * 100)) == 20
