"""JSON that anyone may have written, read strictly: one meaning, or an error that says where the text is wrong.

The standard library takes the last of two equal keys, NaN, Infinity, numbers that overflow to infinity, and any
depth up to the interpreter's recursion limit. Callers bound the size before they call.
"""

import json
import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NoReturn

MAX_DEPTH = 32  # levels of lists and objects; a verifying key, the deepest document in use, has four
_BYTE_ORDER_MARK = "\ufeff"
_EXACT_DIGITS = 100  # of an integer that is written with a point or an exponent
_SHOWN_CHARACTERS = 64  # of a key that an error repeats


class JsonError(ValueError):
    """The text is not JSON, or has more than one meaning. One line, without the file's name."""


def parse(text: str) -> object:
    """The value that `text` holds; JsonError names the line and column, or the key. A byte order mark is an error."""
    if text.startswith(_BYTE_ORDER_MARK):
        raise JsonError("line 1, column 1: a byte order mark precedes the JSON; send the text without it")
    if not text.strip():
        raise JsonError("the text is empty; give a JSON value")
    try:
        value: object = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=exact
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonError(f"{place}: {error.msg.removesuffix(' at')}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def kind(value: object) -> str:
    """Return the type of a parsed value as text: "a list"."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _check_depth(value: object) -> None:
    """Readers of the value may recurse; they must not reach the interpreter's limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _items(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _too_deep()


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> JsonError:
    return JsonError(f"lists or objects are nested too deeply; at most {MAX_DEPTH} levels are read")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = json.dumps(key[:_SHOWN_CHARACTERS])
                raise JsonError(f"the key {shown} is duplicated; give it once")
            seen.add(key)
    return members


def _no_constant(text: str) -> NoReturn:
    raise JsonError(f"{text} is not JSON; give a number")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # converting takes more than linear time, so Python bounds it
        raise JsonError(f"a number has {len(text)} digits; field elements have at most 77") from None


def exact(literal: str) -> int | float:
    """A number with a point or an exponent: the integer that it stands for ("415.0", "1e3"), else a float.

    Exact where a float is not: "9007199254740993.0" is that integer.
    """
    try:
        number = Decimal(literal)
    except InvalidOperation:  # an exponent beyond any number
        return _finite(literal)
    if number.adjusted() < _EXACT_DIGITS and number == number.to_integral_value():
        return int(number)
    return _finite(literal)


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise JsonError("a number is too large for a floating-point number; give a whole number without exponent")
    return number
