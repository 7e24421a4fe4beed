"""Numbers of a request: how they are read, and the JSON schema that describes exactly what is read.

A number is a JSON integer, a decimal string or a 0x… hexadecimal string, from 0 to below a bound.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_DECIMAL = re.compile(r"[0-9]+", re.ASCII)
_HEX = re.compile(r"0[xX][0-9a-fA-F]+", re.ASCII)
_MAX_CHARACTERS = 128  # that are converted: more than any number below a bound needs
_EXACT_FLOATS = 2**53  # up to here a float stands for one integer


@dataclass(frozen=True)
class Number:
    """An annotation for an int in [0, below). `bound` says so in an error; `name` is the schema's title."""

    name: str
    below: int
    bound: str

    def read(self, value: object) -> int:
        """The number; raises PydanticCustomError, whose message never shows it. Booleans are not numbers."""
        number = _whole(value)
        if number is None:
            kind = "is missing" if value is None else "is not a whole number"
            raise wrong(f"{kind}; give an integer, a decimal string or a 0x… hex string")
        if not 0 <= number < self.below:
            raise wrong(f"is out of range; it must be 0 or more and below {self.bound}")
        return number

    def schema(self) -> dict[str, Any]:
        """What `read` accepts, as JSON schema; it also accepts up to 128 characters with leading zeros."""
        characters = max(len(str(self.below - 1)), len(hex(self.below - 1)))
        return {
            "title": self.name,
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": self.below - 1},
                {"type": "string", "maxLength": characters, "pattern": f"^{decimal_below(self.below)}$"},
                {"type": "string", "maxLength": characters, "pattern": f"^0[xX]{hex_below(self.below)}$"},
            ],
        }

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


def wrong(message: str, field: str = "") -> PydanticCustomError:
    """An error for a model: of the value at hand, or of `field` of the model."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "field": field})


def decimal_below(bound: int) -> str:
    """A pattern for the decimal strings of numbers below `bound`, leading zeros included."""
    return f"0*(?:{'|'.join(_numerals(str(bound - 1), '0123456789'))})"


def hex_below(bound: int) -> str:
    """A pattern for the hexadecimal digits of numbers below `bound`, in either case, leading zeros included."""
    return f"0*(?:{'|'.join(_numerals(f'{bound - 1:x}', '0123456789abcdef'))})"


def _whole(value: object) -> int | None:
    """The whole number that a JSON value stands for; one so long that no bound allows it is too large as well."""
    if isinstance(value, str):
        for pattern, base in ((_HEX, 16), (_DECIMAL, 10)):
            if pattern.fullmatch(value):
                return int(value, base) if len(value) <= _MAX_CHARACTERS else 1 << 1024
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT_FLOATS else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _numerals(largest: str, digits: str) -> Iterator[str]:
    """Patterns that cover the numerals up to `largest`: shorter ones, those with a lower digit somewhere, itself."""
    rest = len(largest) - 1
    if rest:
        yield f"{_one_of(digits)}{{1,{rest}}}"
    for place, digit in enumerate(largest):
        lower = digits[1 if place == 0 and rest else 0 : digits.index(digit)]
        if lower:
            prefix = "".join(map(_one_of, largest[:place]))
            more = rest - place
            yield f"{prefix}{_one_of(lower)}{_one_of(digits)}{{{more}}}" if more else f"{prefix}{_one_of(lower)}"
    yield "".join(map(_one_of, largest))


def _one_of(digits: str) -> str:
    """A pattern for one of consecutive hexadecimal digits, in either case."""
    numeric = [digit for digit in digits if digit <= "9"]
    letters = [digit for digit in digits if digit > "9"]
    spans = [f"{span[0]}-{span[-1]}" if len(span) > 1 else span[0] for span in (numeric, letters) if span]
    spans += [spans[-1].upper()] if letters else []
    return spans[0] if spans == [digits] and len(digits) == 1 else f"[{''.join(spans)}]"
