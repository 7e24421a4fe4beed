"""JSON of strangers: one meaning, or a refusal; the same for the gateway, the command line and key stores."""

import pytest

from zkp.proofs.strict_json import MAX_DEPTH, JsonError, kind, parse


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the text is empty"),
        ("{} x", "line 1, column 4: Extra data"),
        ("\ufeff{}", "line 1, column 1: a byte order mark"),
        ('{"a": 1, "b": 2, "a": 1}', 'the key "a" is duplicated; give it once'),
        ('[{"x": {"a": 1, "a": 2}}]', 'the key "a" is duplicated; give it once'),
        ('{"\\ud800": 1, "\\ud800": 2}', r'the key "\ud800" is duplicated'),
        ("[NaN]", "NaN is not JSON; give a number"),
        ("-Infinity", "-Infinity is not JSON; give a number"),
        ("1e999", "a number is too large"),
        ("9" * 5000, "a number has 5000 digits"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested too deeply; at most 32 levels"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_has_no_single_meaning_is_refused(text: str, words: str) -> None:
    """The error says where or what, in one line that any log can hold."""
    with pytest.raises(JsonError) as refused:
        parse(text)
    assert str(refused.value).startswith(words) or words in str(refused.value)
    assert str(refused.value).isascii()
    assert "\n" not in str(refused.value)


def test_values_are_read_as_they_stand() -> None:
    """Whole numbers keep every digit; the deepest level that is allowed is read."""
    assert parse('{"a": 12345678901234567890123456789, "b": ["é", null, true, 1.5]}') == {
        "a": 12345678901234567890123456789,
        "b": ["é", None, True, 1.5],
    }
    deep = parse("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH):
        assert isinstance(deep, list)
        (deep,) = deep
    assert deep == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{}", "an object"),
        ("[]", "a list"),
        ('""', "a string"),
        ("0", "a number"),
        ("false", "a boolean"),
        ("null", "null"),
    ],
)
def test_kinds_have_names(text: str, name: str) -> None:
    """Refusals say what came instead of what was wanted."""
    assert kind(parse(text)) == name
