"""Requests: models that read them, and from which the API description is generated as well.

A model's errors become an `InputError` with the path of the field; no error holds an input, which is private.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Self, TypeGuard, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from zkp.proofs.errors import InputError
from zkp.proofs.signals import Signals

_SHOWN = 64  # characters of a key that an error repeats


class Fields(BaseModel):
    """Named values from outside; unknown names are refused, with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, document: Mapping[str, object]) -> Self:
        """The fields of a parsed JSON object. InputError names the first unknown field, else the first wrong one."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        raise _unknown(cls, document) or InputError(_path(details[0]), _message(details[0], cls))


class Request(Fields):
    """The fields of one circuit's request."""

    def signals(self) -> Signals:
        """The circuit's input signals."""
        raise NotImplementedError


def _unknown(model: type[BaseModel], document: Mapping[str, object], prefix: str = "") -> InputError | None:
    """The error of the first unknown field here or further in."""
    known = model.model_fields
    for key in document:
        if key not in known:
            shown = ascii(key)[1:-1][:_SHOWN]
            nearest = get_close_matches(shown, known, n=1)
            cure = f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known) or 'none'}"
            return InputError(f"{prefix}{shown}", f"is unknown; {cure}")
    for name, field in known.items():
        inner = document.get(name)
        if _is_model(field.annotation) and isinstance(inner, Mapping):
            found = _unknown(field.annotation, inner, f"{prefix}{name}.")
            if found is not None:
                return found
    return None


def _path(error: ErrorDetails) -> str:
    """The field as the caller wrote it: "inputs.leaves[7]"."""
    field = error.get("ctx", {}).get("field")
    parts = [*error["loc"], *([field] if field else [])]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _message(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with a field, and what is right."""
    if error["type"] == "wrong":
        return error["msg"]
    if error["type"] == "too_long":
        return f"has too many entries; at most {error['ctx']['max_length']} are taken"
    expected: object = model
    for part in error["loc"]:
        if _is_model(expected) and part in expected.model_fields:
            expected = expected.model_fields[str(part)].annotation
    if _is_model(expected):
        return f"must be an object with {', '.join(expected.model_fields)}"
    if get_origin(expected) is list:
        return "must be a list of at least one field element"
    if expected is int:
        return "is missing; give an integer, a decimal string or a 0x… hex string"
    return "is missing"


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
