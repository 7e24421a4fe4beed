"""What a circuit is to the rest of the package, and the two kinds of number that requests are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from zkp.proofs.field import ORDER
from zkp.proofs.numbers import Number
from zkp.proofs.request import Request
from zkp.proofs.signals import Shape, Signals

WORD = 2**64  # the 64-bit circuits take numbers below this

FIELD_ELEMENT = Number("FieldElement", ORDER, "the field's order")
Element = Annotated[int, FIELD_ELEMENT]
"""A request's field element."""
Word = Annotated[int, Number("Word", WORD, "2^64")]
"""A request's 64-bit number."""


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
    request: type[Request]  # what a caller sends, and how it becomes signals
    # The public inputs that signals lead to; UnsatisfiedInputs when no proof of them can exist.
    evaluate: Callable[[Signals], tuple[int, ...]]
    sample: Mapping[str, object]  # a request that succeeds, for trying keys out
