"""Input signals of a circuit as bytes: canonical JSON, in which equal inputs have equal bytes.

An object with sorted keys and no blanks; a scalar is a decimal string, an array a list of them. What is
read here came from anyone: time and memory stay linear in a bounded number of bytes.
"""

import json
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import NoReturn

from zkp.proofs.errors import InputError
from zkp.proofs.field import ORDER, from_decimal
from zkp.protocol.limits import MAX_INPUT_BYTES

# Signal name to its field elements; a scalar has one.
Signals = Mapping[str, tuple[int, ...]]
# Signal name to its length; None for a scalar.
Shape = Mapping[str, int | None]

_ORDER = b"%d" % ORDER
_LONGEST = re.compile(rb"[0-9]{%d}" % len(_ORDER))  # numbers of as many digits compare as their digits do
ELEMENT = "must be a decimal string below the field's order, without sign or leading zeros"


def encode(shape: Shape, signals: Signals) -> bytes:
    """Canonical JSON of `signals`, which have `shape`."""
    document = {
        name: str(signals[name][0]) if length is None else [str(value) for value in signals[name]]
        for name, length in shape.items()
    }
    return _canonical(document)


def decode(shape: Shape, inputs: bytes) -> dict[str, tuple[int, ...]]:
    """The signals that `inputs` holds. InputError names the signal that is wrong."""
    if len(inputs) > MAX_INPUT_BYTES:
        raise InputError("inputs", f"have {len(inputs)} bytes; at most {MAX_INPUT_BYTES} are taken")
    document = _parse(inputs)
    refuse_unknown(document, tuple(shape), prefix="inputs.")
    signals = {name: _signal(f"inputs.{name}", document.get(name), length) for name, length in shape.items()}
    if _canonical(document) != inputs:
        raise InputError("inputs", "must be canonical JSON: each key once, keys sorted, no blanks, no escapes")
    return signals


def canonical(shape: Shape, inputs: bytes) -> bool:
    """Return whether `decode` accepts `inputs`; it explains why not.

    Takes a fifth of its time, for callers that need only this, and whose inputs are nearly always valid.
    """
    return _pattern(tuple(shape.items())).fullmatch(inputs) is not None and all(
        number < _ORDER for number in _LONGEST.findall(inputs)
    )


@cache
def _pattern(shape: tuple[tuple[str, int | None], ...]) -> re.Pattern[bytes]:
    """What `encode` writes, whatever the numbers are; as long as the field's order at most."""
    number = rb'"(?:0|[1-9][0-9]{0,76})"'
    values = {name: number if length is None else rb"\[%s\]" % b",".join([number] * length) for name, length in shape}
    return re.compile(rb"\{%s\}" % b",".join(rb'"%s":%s' % (name.encode(), values[name]) for name in sorted(values)))


def refuse_unknown(document: Mapping[str, object], known: Collection[str], prefix: str = "") -> None:
    """InputError for the first key of `document` that is not in `known`, with the nearest known one."""
    for key in document:
        if key not in known:
            shown = ascii(key)[1:-1][:64]
            nearest = get_close_matches(shown, known, n=1)
            cure = f"did you mean {nearest[0]!r}?" if nearest else f"known are: {', '.join(known)}"
            raise InputError(f"{prefix}{shown}", f"is unknown; {cure}")


def _canonical(document: Mapping[str, object]) -> bytes:
    return _WRITE(document).encode()


def _parse(inputs: bytes) -> dict[str, object]:
    try:
        document = _READ(inputs.decode())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError("inputs", "must be a JSON object of signals, each a decimal string or a list of them")
    return document


def _no_number(_: str) -> NoReturn:
    """Numbers are refused before they are converted: that takes more than linear time."""
    raise ValueError


# Made once: json.loads and json.dumps would make them anew for each submission, at twice the time.
_READ = json.JSONDecoder(parse_int=_no_number, parse_float=_no_number).decode
_WRITE = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _signal(path: str, value: object, length: int | None) -> tuple[int, ...]:
    if length is None:
        return (_element(path, value),)
    if not isinstance(value, list) or len(value) != length:
        raise InputError(path, f"must be a list of {length} decimal strings")
    return tuple(_element(f"{path}[{index}]", item) for index, item in enumerate(value))


def _element(path: str, value: object) -> int:
    element = from_decimal(value)
    if element is None:
        raise InputError(path, "is missing" if value is None else ELEMENT)
    return element
