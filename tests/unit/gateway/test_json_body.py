"""Bodies are unambiguous, or rejected with the position of the error."""

import pytest

from gateway.json_body import parse_object
from gateway.problems import INVALID_JSON, ApiProblem


def refusal(body: bytes) -> str:
    """Why the body is refused."""
    with pytest.raises(ApiProblem) as caught:
        parse_object(body)
    assert caught.value.kind is INVALID_JSON
    return caught.value.detail


def test_an_object_is_read_unchanged() -> None:
    """Numbers keep every digit, text keeps every character."""
    body = '{"a": 12345678901234567890123456789, "b": ["é", null, true]}'.encode()
    assert parse_object(body) == {"a": 12345678901234567890123456789, "b": ["é", None, True]}


@pytest.mark.parametrize("body", [b"", b"  \n\t"])
def test_an_empty_body_has_its_own_message(body: bytes) -> None:
    """An empty body has its own message."""
    assert refusal(body) == "the body is empty; send a JSON object"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a": 1;}', "line 1, column 8"),
        (b'{"a": 1\n "b": 2}', "line 2, column 2"),
        (b'{"a": 1} x', "line 1, column 10"),
        (b'{"a": "\x01"}', "line 1, column 8"),
        (b"{'a': 1}", "line 1, column 2"),
        (b"\xef\xbb\xbf{}", "line 1, column 1"),
    ],
)
def test_invalid_json_names_line_and_column(body: bytes, place: str) -> None:
    """The message contains the position."""
    assert refusal(body).startswith(place)


def test_other_encodings_name_the_byte() -> None:
    """UTF-16 and stray bytes are refused, not guessed at."""
    assert refusal('{"a": 1}'.encode("utf-16")) == "byte 0 is not UTF-8; encode the body as UTF-8"
    assert refusal(b'{"a": "\xff"}').startswith("byte 7 ")


@pytest.mark.parametrize("body", [b'{"a": 1, "b": 2, "a": 3}', b'{"x": {"a": 1, "a": 1}}'])
def test_a_duplicate_key_is_refused_at_any_depth(body: bytes) -> None:
    """Two parsers could read different values."""
    assert refusal(body) == 'the key "a" is duplicated; give it once'


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_extensions_of_json_are_refused(constant: bytes) -> None:
    """The standard library would accept these."""
    assert refusal(b'{"a": ' + constant + b"}") == f"{constant.decode()} is not JSON; give a number"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    """A body of brackets ends in a refusal, not in a dead process."""
    assert "nested too deeply" in refusal(opening * 100_000)


def test_a_number_without_end_is_refused() -> None:
    """The conversion of digits is not linear in time."""
    assert refusal(b'{"a": ' + b"9" * 100_000 + b"}").startswith("a number has 100000 digits")


@pytest.mark.parametrize(
    ("body", "name"),
    [(b"[]", "a list"), (b'"x"', "a string"), (b"1", "a number"), (b"true", "a boolean"), (b"null", "null")],
)
def test_anything_but_an_object_is_named(body: bytes, name: str) -> None:
    """The message names the actual type."""
    assert refusal(body) == f"the body is {name}; send a JSON object"


def test_a_lone_surrogate_in_a_duplicate_key_is_shown_escaped() -> None:
    """A refusal can be written to any log, whatever the caller sent."""
    assert refusal(b'{"\\ud800": 1, "\\ud800": 2}').isascii()
