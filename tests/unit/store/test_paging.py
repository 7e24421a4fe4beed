"""Page tokens."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.store.errors import PageTokenError
from coordinator.store.paging import Cursor, decode_token, encode_token

PLACE = Cursor(1_790_000_000_123, "task-1")


def test_a_token_names_the_place_it_was_made_for() -> None:
    """It can be handed back in a URL as it is."""
    token = encode_token(PLACE, ("pending", ""))

    assert decode_token(token, ("pending", "")) == PLACE
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_token_of_another_listing_is_refused() -> None:
    """Other filters mean another order of pages."""
    token = encode_token(PLACE, ("pending", ""))

    with pytest.raises(PageTokenError, match="page_token: belongs to a listing with other filters"):
        decode_token(token, ("", "pending"))


def _forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "not base64!",
        "é",
        "A" * 2000,
        _forged("[]"),
        _forged('{"a": 1}'),
        _forged('["m", 1, "id", 4]'),
        _forged('["m", "1", "id"]'),
        _forged('["m", true, "id"]'),
        _forged('["m", 1.5, "id"]'),
        _forged('["m", -1, "id"]'),
        _forged('["m", 99999999999999999999, "id"]'),
        _forged('["m", 1, "nul \\u0000"]'),
        _forged('["m", 1, "lone \\ud800"]'),
        _forged("[" * 700),
    ],
)
def test_what_no_listing_made_is_refused(token: str) -> None:
    """The caller learns which field is wrong and what to do."""
    with pytest.raises(PageTokenError, match="page_token: invalid; omit it to list from the start"):
        decode_token(token, ("", ""))


@settings(derandomize=True)
@given(st.text())
def test_nothing_a_caller_sends_gets_past_the_check(token: str) -> None:
    """Any text is either a token or refused as one."""
    with pytest.raises(PageTokenError):
        decode_token(token, ("", ""))
