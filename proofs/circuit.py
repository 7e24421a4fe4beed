"""What a circuit is to the rest of the room, and how the fields of a request are read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proofs.errors import InputError
from proofs.field import ORDER
from proofs.signals import Shape, Signals

WORD = 2**64  # the 64-bit circuits take numbers below this
_DECIMAL = re.compile(r"[0-9]+", re.ASCII)
_HEX = re.compile(r"0[xX][0-9a-fA-F]+", re.ASCII)
_LONGEST = 128  # characters that are converted: more than any number below a bound has


@dataclass(frozen=True)
class Prepared:
    """What is submitted: the circuit's input signals, and the public inputs that they lead to."""

    inputs: bytes = field(repr=False)  # canonical JSON, see proofs.signals: private, never to be logged
    public_inputs: tuple[str, ...]  # decimal, in the circuit's order


@dataclass(frozen=True)
class Circuit:
    """One circuit of the catalogue; its source is circom/<name>.circom."""

    name: str
    statement: str  # what a proof shows, in a sentence
    shape: Shape  # of the input signals
    public: tuple[str, ...]  # names of the public inputs, in the order in which a verifier takes them
    request: tuple[str, ...]  # fields of a request
    read: Callable[[Mapping[str, object]], Signals]  # a request into signals; InputError
    # The public inputs that signals lead to; UnsatisfiedInputs when no proof of them can exist.
    evaluate: Callable[[Signals], tuple[int, ...]]
    sample: Mapping[str, object]  # a request that succeeds, for trying keys out


def integer(name: str, value: object, below: int, bound: str) -> int:
    """A request's number: an int, a decimal string or a 0x… hex string, in [0, below).

    Booleans and floats are not numbers here. InputError names `name`, says `bound` when the number is at
    or above it, and never shows the number.
    """
    number = _from_text(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int):
        kind = "is missing" if value is None else "is not a whole number"
        raise InputError(name, f"{kind}; give an integer, a decimal string or a 0x… hex string")
    if not 0 <= number < below:
        raise InputError(name, f"is out of range; it must be 0 or more and below {bound}")
    return number


def element(name: str, value: object) -> int:
    """A request's field element."""
    return integer(name, value, ORDER, "the field's order")


def word(name: str, value: object) -> int:
    """A request's 64-bit number."""
    return integer(name, value, WORD, "2^64")


def _from_text(text: str) -> int | None:
    """The number written in `text`, if one is; anything so long that no bound allows it is ORDER."""
    if _HEX.fullmatch(text):
        return int(text, 16) if len(text) <= _LONGEST else ORDER
    if _DECIMAL.fullmatch(text):
        return int(text) if len(text) <= _LONGEST else ORDER
    return None
