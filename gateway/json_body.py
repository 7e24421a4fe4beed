"""Reading a body as JSON, strictly: one meaning, or a refusal that says where it goes wrong.

Stricter than the standard library's reader, which takes the last of two equal keys, NaN, and UTF-16. What is
read here came from anyone; its size was bounded before.
"""

import json
from typing import NoReturn

from gateway.problems import INVALID_JSON, Problem

_SHOWN = 64  # characters of a key that are repeated in a refusal


class _RefusedError(ValueError):
    """Raised inside the reader's hooks, whose place in the text is not known."""


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object that `body` holds; raises a `Problem`."""
    if not body.strip():
        raise _invalid("the body is empty; send a JSON object")
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8; encode the body as UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"{place}: {error.msg.removesuffix(' at')}") from None
    except _RefusedError as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise _invalid("lists or objects are nested too deeply; requests need three levels") from None
    if not isinstance(document, dict):
        raise _invalid(f"the body is {_name_of(document)}; send a JSON object")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {_shown(key)} is there twice; give it once")
            seen.add(key)
    return members


def _no_constant(text: str) -> NoReturn:
    raise _RefusedError(f"{text} is not JSON; give a number")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # converting takes more than linear time, so Python bounds it
        raise _RefusedError(f"a number has {len(text)} digits; field elements have at most 77") from None


def _shown(key: str) -> str:
    return json.dumps(key[:_SHOWN])


def _name_of(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _invalid(detail: str) -> Problem:
    return Problem(INVALID_JSON, detail)
