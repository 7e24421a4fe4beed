"""Queries on a schema: its fields, the environment variable of each, the nearest known name."""

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from zkp.daemon.settings.errors import SchemaError
from zkp.daemon.settings.section import Section


@dataclass(frozen=True, slots=True)
class SettingField:
    """A key that holds a value. `structured`: a list or mapping, given in the environment as YAML or JSON."""

    location: tuple[str, ...]
    structured: bool
    field: FieldInfo

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.location)


def leaves(schema: type[Section], under: tuple[str, ...] = ()) -> Iterator[SettingField]:
    """Yield every key of the schema that holds a value, in the order of definition."""
    for name, field in schema.model_fields.items():
        location = (*under, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, location)
        else:
            yield SettingField(location, _is_structured(field.annotation), field)


def variables(schema: type[Section], prefix: str) -> dict[str, SettingField]:
    """Return every field of the schema by its environment variable, PREFIX_SECTION_KEY.

    Raises:
        SchemaError: Two fields have the same variable.
    """
    names: dict[str, SettingField] = {}
    for leaf in leaves(schema):
        name = "_".join((prefix, *leaf.location)).upper()
        if name in names:
            raise SchemaError(f"{names[name].key} and {leaf.key} would both be set by {name}: rename one")
        names[name] = leaf
    return names


def nearest(word: str, known: Mapping[str, str]) -> str | None:
    """Return the value in `known` whose key is most similar to `word`, or None if none is similar."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return known[matches[0]] if matches else None


def find(schema: type[Section], location: Iterable[str | int]) -> tuple[type[Section] | None, FieldInfo | None]:
    """Return the innermost section on the path `location` and the field at its end, None where there is none."""
    section: type[Section] | None = schema
    field: FieldInfo | None = None
    for part in location:
        if isinstance(part, int):
            continue
        if section is None or part not in section.model_fields:
            return section, None
        field = section.model_fields[part]
        inner = _section_in(field.annotation)
        if inner is None:
            return section, field
        section = inner
    return section, field


def example(field: FieldInfo | None) -> str | None:
    """Return an example of a valid value in YAML, or None if the schema has none."""
    return str(field.examples[0]) if field is not None and field.examples else None


def allowed_range(field: FieldInfo | None) -> str | None:
    """Return both bounds of the field as text, or None for a field without bounds."""
    if field is None:
        return None
    lower = [*_bounds(field, "ge", "at least"), *_bounds(field, "gt", "above")]
    upper = [*_bounds(field, "le", "at most"), *_bounds(field, "lt", "below")]
    narrowest = [*sorted(lower, reverse=True)[:1], *sorted(upper)[:1]]
    return " and ".join(f"{word} {bound}" for bound, word in narrowest) or None


def _bounds(field: FieldInfo, attribute: str, word: str) -> Iterator[tuple[float, str]]:
    """Yield the bounds of one kind: the type may have one, and the field another."""
    for constraint in field.metadata:
        bound = getattr(constraint, attribute, None)
        if bound is not None:
            yield bound, word


def _is_structured(annotation: Any) -> bool:  # noqa: ANN401 - any type expression
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return any(_is_structured(choice) for choice in get_args(annotation))
    if origin is Annotated:
        return _is_structured(get_args(annotation)[0])
    container = origin or annotation
    return isinstance(container, type) and issubclass(container, (list, tuple, frozenset, Mapping, Section))


def _section_in(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - any type expression
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
