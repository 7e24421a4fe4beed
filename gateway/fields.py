"""Field types of the gateway's requests: each validates a value and has a JSON schema."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zkp.proofs.numbers import wrong
from zkp.protocol.limits import anchored

_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_COMPARED_CHARACTERS = 64  # characters of an unknown name that are compared with the known ones


class _FieldType:
    """An annotation with its own validation. Errors never contain the value."""

    def read(self, value: object) -> object:
        """Return the validated value.

        Raises:
            PydanticCustomError: The value is invalid.
        """
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the values that `read` accepts."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True)
class Integer(_FieldType):
    """An integer from `low` to `high`; with `text`, as in a query string, also as decimal digits."""

    low: int
    high: int
    unit: str = ""
    text: bool = False

    def read(self, value: object) -> object:
        """Return the validated value; see `_FieldType.read`."""
        number = int(value) if self.text and isinstance(value, str) and _DIGITS.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not self.low <= number <= self.high:
            unit = f" of {self.unit}" if self.unit else ""
            raise wrong(f"must be a whole number{unit} from {self.low} to {self.high}")
        return number

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Choice(_FieldType):
    """One of a fixed set of names."""

    names: tuple[str, ...]

    def read(self, value: object) -> object:
        """Return the validated value; see `_FieldType.read`."""
        known = f"known are {', '.join(self.names)}"
        if not isinstance(value, str):
            raise wrong(f"{'is missing' if value is None else 'must be a string'}; {known}")
        if value not in self.names:
            nearest = get_close_matches(value[:_COMPARED_CHARACTERS], self.names, n=1, cutoff=0.5)
            raise wrong(f"is unknown; did you mean {nearest[0]}?" if nearest else f"is unknown; {known}")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema."""
        return {"type": "string", "enum": [*self.names]}


@dataclass(frozen=True)
class Text(_FieldType):
    """A string that fully matches `pattern`; `rule` is the error message."""

    pattern: str
    rule: str

    def read(self, value: object) -> object:
        """Return the validated value; see `_FieldType.read`."""
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise wrong(self.rule)
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema."""
        return {"type": "string", "pattern": anchored(self.pattern)}
