"""Headers of requests, metadata, deadlines, statuses."""

from urllib.parse import unquote_to_bytes

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rpc.serving.metadata import BadRequestHead, HttpError, encode_metadata, encode_status, read_head

HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", b"/a.B/C"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def changed(name: bytes, value: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the headers with this one replaced, or left out."""
    kept = [field for field in HEADERS if field[0] != name]
    return kept if value is None else [*kept, (name, value)]


def test_a_request() -> None:
    """Method, no deadline, no metadata."""
    head = read_head(HEADERS)
    assert (head.method, head.timeout_s, head.metadata()) == ("/a.B/C", None, ())


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b":method", b"GET", 405),
        (b":method", b"PUT", 405),
        (b"content-type", None, 415),
        (b"content-type", b"application/json", 415),
        (b"content-type", b"application/grpcx", 415),
        (b"te", None, 400),
    ],
)
def test_what_is_not_grpc(name: bytes, value: bytes | None, status: int) -> None:
    """Gets an HTTP status."""
    with pytest.raises(HttpError) as caught:
        read_head(changed(name, value))
    assert caught.value.status == status


@pytest.mark.parametrize("value", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_forms_of_the_content_type(value: bytes) -> None:
    """With a suffix or parameters."""
    assert read_head(changed(b"content-type", value)).method == "/a.B/C"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"30S", 30),
        (b"1500m", 1.5),
        (b"10u", 1e-5),
        (b"5n", 5e-9),
        (b"99999999S", 99999999),
    ],
)
def test_deadlines(text: bytes, seconds: float) -> None:
    """All units of the specification."""
    assert read_head(changed(b"grpc-timeout", text)).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b"1 S"])
def test_invalid_deadlines(text: bytes) -> None:
    """Are an error, and not no deadline."""
    with pytest.raises(BadRequestHead) as caught:
        read_head(changed(b"grpc-timeout", text))
    assert caught.value.code is grpc.StatusCode.INTERNAL


def test_compression_is_refused() -> None:
    """`identity` is none."""
    assert read_head(changed(b"grpc-encoding", b"identity")).method == "/a.B/C"
    with pytest.raises(BadRequestHead) as caught:
        read_head(changed(b"grpc-encoding", b"gzip"))
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_metadata_of_a_request() -> None:
    """Binary values are decoded, with and without padding; headers of the protocol are left out."""
    own = [(b"x-name", b"value"), (b"x-bin", b"AAEC/w"), (b"y-bin", b"AAECAw=="), (b"z-bin", b"!")]
    head = read_head([*HEADERS, (b"user-agent", b"test"), (b"grpc-timeout", b"1S"), *own])
    assert head.metadata() == (
        ("x-name", "value"), ("x-bin", b"\x00\x01\x02\xff"), ("y-bin", b"\x00\x01\x02\x03"), ("z-bin", b""),
    )  # fmt: skip


@given(st.binary(max_size=50))
def test_binary_metadata_returns(value: bytes) -> None:
    """What is encoded for an answer is decoded as it was."""
    ((name, encoded),) = encode_metadata([("x-bin", value)])
    assert b"=" not in encoded
    assert read_head([*HEADERS, (name, encoded)]).metadata() == (("x-bin", value),)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Upper", "x"), ("with space", "x"), ("", "x"), ("grpc-status", "0"), ("x", "a\nb"), ("x", "ä"), ("x", b"raw")],
)
def test_metadata_that_cannot_be_sent(name: str, value: str | bytes) -> None:
    """Raises, and names the key."""
    with pytest.raises(ValueError, match="metadata"):
        encode_metadata([(name, value)])


@given(st.text(max_size=60))
def test_details_are_percent_encoded(details: str) -> None:
    """Printable ASCII on the wire; decoding gives the text."""
    fields = dict(encode_status(grpc.StatusCode.NOT_FOUND, details))
    assert fields[b"grpc-status"] == b"5"
    encoded = fields.get(b"grpc-message", b"")
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote_to_bytes(encoded) == details.encode("utf-8", "replace")
