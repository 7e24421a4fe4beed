"""The kinds of value in requests to the gateway: each reads a value, and is described by the schema beside it."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from zkp.proofs.numbers import wrong
from zkp.protocol.limits import anchored

_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_SHOWN = 64  # characters of a caller's own name that are compared


class _Kind:
    """An annotation that reads a value by itself. Its errors never show the value."""

    def read(self, value: object) -> object:
        """The value; raises PydanticCustomError."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """What `read` accepts."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True)
class Whole(_Kind):
    """A whole number from `low` to `high`; as digits where `text`, in a query."""

    low: int
    high: int
    unit: str = ""
    text: bool = False

    def read(self, value: object) -> object:
        number = int(value) if self.text and isinstance(value, str) and _DIGITS.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not self.low <= number <= self.high:
            unit = f" of {self.unit}" if self.unit else ""
            raise wrong(f"must be a whole number{unit} from {self.low} to {self.high}")
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Choice(_Kind):
    """One of some names."""

    names: tuple[str, ...]

    def read(self, value: object) -> object:
        known = f"known are {', '.join(self.names)}"
        if not isinstance(value, str):
            raise wrong(f"{'is missing' if value is None else 'must be a string'}; {known}")
        if value not in self.names:
            nearest = get_close_matches(value[:_SHOWN], self.names, n=1, cutoff=0.5)
            raise wrong(f"is unknown; did you mean {nearest[0]}?" if nearest else f"is unknown; {known}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.names]}


@dataclass(frozen=True)
class Text(_Kind):
    """Text that a pattern matches as a whole; `rule` says so in an error."""

    pattern: str
    rule: str

    def read(self, value: object) -> object:
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise wrong(self.rule)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": anchored(self.pattern)}
