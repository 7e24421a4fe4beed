"""Validator for the subset of JSON Schema that the API description uses.

An unknown keyword is an error, so that the whole description is checked.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value),
    "null": lambda value: value is None,
}


def _is_whole(value: object) -> bool:
    """In JSON Schema 415.0 is an integer."""
    return isinstance(value, float) and value.is_integer()


_NOTES = {"description", "examples", "format", "default", "discriminator"}


def complaint(value: object, schema: Schema, document: Schema, place: str = "$") -> str | None:
    """What is wrong with `value`, None when it fits; references are looked up in `document`."""
    for keyword, wanted in schema.items():
        if keyword in _NOTES or keyword in ("required", "additionalProperties"):
            continue
        found = _KEYWORDS[keyword](value, wanted, document, place)
        if found is not None:
            return found
    if isinstance(value, dict):
        return _members(value, schema, place)
    return None


def _members(value: dict[str, object], schema: Schema, place: str) -> str | None:
    missing = set(schema.get("required", ())) - set(value)
    if missing:
        return f"{place}: lacks {sorted(missing)}"
    if schema.get("additionalProperties", True) is False and (more := set(value) - set(schema["properties"])):
        return f"{place}: has {sorted(more)} too"
    return None


def _reference(value: object, wanted: str, document: Schema, place: str) -> str | None:
    target: Any = document
    for part in wanted.removeprefix("#/").split("/"):
        target = target[part]
    return complaint(value, target, document, place)


def _type(value: object, wanted: str | list[str], _: Schema, place: str) -> str | None:
    names = [wanted] if isinstance(wanted, str) else wanted
    return None if any(_TYPES[name](value) for name in names) else f"{place}: {value!r} is no {names}"


def _any_of(value: object, wanted: list[Schema], document: Schema, place: str) -> str | None:
    found = [complaint(value, schema, document, place) for schema in wanted]
    return None if None in found else f"{place}: {found}"


def _one_of(value: object, wanted: list[Schema], document: Schema, place: str) -> str | None:
    found = [complaint(value, schema, document, place) for schema in wanted]
    return None if found.count(None) == 1 else f"{place}: fits {found.count(None)} of {len(wanted)}: {found}"


def _all_of(value: object, wanted: list[Schema], document: Schema, place: str) -> str | None:
    found = [complaint(value, schema, document, place) for schema in wanted]
    return next((one for one in found if one is not None), None)


def _properties(value: object, wanted: Mapping[str, Schema], document: Schema, place: str) -> str | None:
    members = value if isinstance(value, dict) else {}
    found = [
        complaint(members[name], schema, document, f"{place}.{name}")
        for name, schema in wanted.items()
        if name in members
    ]
    return next((one for one in found if one is not None), None)


def _items(value: object, wanted: Schema, document: Schema, place: str) -> str | None:
    items = value if isinstance(value, list) else []
    found = [complaint(item, wanted, document, f"{place}[{index}]") for index, item in enumerate(items)]
    return next((one for one in found if one is not None), None)


def _when(
    kind: type | tuple[type, ...], fits: Callable[[Any, Any], bool]
) -> Callable[[object, Any, Schema, str], str | None]:
    def check(value: object, wanted: Any, _: Schema, place: str) -> str | None:
        return None if not isinstance(value, kind) or fits(value, wanted) else f"{place}: {value!r} is not {wanted!r}"

    return check


_KEYWORDS: Mapping[str, Callable[[object, Any, Schema, str], str | None]] = {
    "$ref": _reference,
    "type": _type,
    "anyOf": _any_of,
    "allOf": _all_of,
    "oneOf": _one_of,
    "properties": _properties,
    "items": _items,
    "enum": _when(object, lambda value, wanted: value in wanted),
    "const": _when(object, lambda value, wanted: value == wanted),
    "pattern": _when(str, lambda value, wanted: re.search(wanted, value) is not None),
    "minimum": _when((int, float), lambda value, wanted: value >= wanted),
    "maximum": _when((int, float), lambda value, wanted: value <= wanted),
    "maxLength": _when(str, lambda value, wanted: len(value) <= wanted),
    "minItems": _when(list, lambda value, wanted: len(value) >= wanted),
    "maxItems": _when(list, lambda value, wanted: len(value) <= wanted),
}
