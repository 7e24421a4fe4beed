"""Hypothesis strategies for a JSON schema: values that match it, and values that few fields accept.

Supports the subset of JSON Schema that the description of requests uses; another keyword is an error.
"""

import re
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

FOREIGN: tuple[object, ...] = (
    *(None, True, False, -1, 1.5, 2**256, [], {}),
    *("", "x", "-1", "+1", " 1", "1_0", "0x", "9" * 78),
)

_NOTES = frozenset({"default", "description", "discriminator", "examples"})
_LIST_LENGTH = 3  # long lists are one test of their own
_EXACT_FLOATS = 2**53


def values(schema: Schema, document: Schema) -> st.SearchStrategy[Any]:
    """Values that fit the schema; references are looked up in `document`."""
    if "$ref" in schema:
        return values(target(schema["$ref"], document), document)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return st.one_of([values(choice, document) for choice in schema[keyword]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind, bounds = schema["type"], {name: value for name, value in schema.items() if name not in _NOTES | {"type"}}
    made: st.SearchStrategy[Any] = _OF_TYPE[kind](document, **bounds)
    return made


def target(reference: str, document: Schema) -> Schema:
    """What a reference names."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def _integers(_: Schema, *, minimum: int, maximum: int) -> st.SearchStrategy[Any]:
    near = st.one_of(
        st.integers(minimum, min(maximum, minimum + 20)), st.integers(max(minimum, maximum - 20), maximum)
    )
    whole = st.one_of(st.integers(minimum, maximum), near)
    # An integer of JSON Schema may be written with a point: 415.0.
    return st.one_of(whole, st.integers(minimum, min(maximum, _EXACT_FLOATS)).map(float))


def _strings(_: Schema, *, pattern: str, maxLength: int | None = None) -> st.SearchStrategy[Any]:  # noqa: N803
    found = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    return found if maxLength is None else found.filter(lambda text: len(text) <= maxLength)


def _arrays(document: Schema, *, items: Schema, minItems: int, maxItems: int) -> st.SearchStrategy[Any]:  # noqa: N803
    return st.lists(values(items, document), min_size=minItems, max_size=min(maxItems, _LIST_LENGTH))


def _objects(
    document: Schema,
    *,
    properties: Schema,
    required: list[str],
    additionalProperties: bool,  # noqa: N803
) -> st.SearchStrategy[Any]:
    assert not additionalProperties
    members = {name: values(member, document) for name, member in properties.items()}
    needed = {name: members[name] for name in required}
    return st.fixed_dictionaries(needed, optional={name: members[name] for name in members if name not in needed})


_OF_TYPE: dict[str, Any] = {
    "integer": _integers,
    "string": _strings,
    "array": _arrays,
    "object": _objects,
    "null": lambda _: st.none(),
}
