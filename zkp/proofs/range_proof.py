"""`range_proof`: the number that I committed to lies in [min, max]."""

import secrets
from typing import Annotated, Self

from pydantic import Field, model_validator

from zkp.proofs.circuit import WORD, Circuit, Element, Word
from zkp.proofs.errors import UnsatisfiedInputs
from zkp.proofs.field import ORDER
from zkp.proofs.numbers import wrong
from zkp.proofs.poseidon import poseidon
from zkp.proofs.request import Request
from zkp.proofs.signals import Signals


class RangeRequest(Request):
    """A number, the range that it lies in, and what hides it."""

    value: Annotated[Word, Field(description="at least min, and at most max")]
    min: Word
    max: Annotated[Word, Field(description="at least min")]
    blinding: Annotated[
        Element | None,
        Field(
            description="hides the value in its commitment: random. Drawn when it is not given, and returned once; "
            "must be given together with an Idempotency-Key"
        ),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise wrong("is above max; the range would be empty", "min")
        if self.value < self.min:
            raise wrong("is below min; no proof of that can exist", "value")
        if self.value > self.max:
            raise wrong("is above max; no proof of that can exist", "value")
        return self

    def signals(self) -> Signals:
        """Return the circuit's signals."""
        # Without blinding, a commitment to a number from a small range could be found by trying.
        blinding = secrets.randbelow(ORDER) if self.blinding is None else self.blinding
        return {"value": (self.value,), "blinding": (blinding,), "min": (self.min,), "max": (self.max,)}


def _evaluate(signals: Signals) -> tuple[int, ...]:
    (value,), (blinding,) = signals["value"], signals["blinding"]
    (low,), (high,) = signals["min"], signals["max"]
    for name, number in (("value", value), ("min", low), ("max", high)):
        if number >= WORD:
            raise UnsatisfiedInputs(f"{name} must be below 2^64")
    if not low <= value <= high:
        raise UnsatisfiedInputs("value must lie in [min, max]")
    return poseidon(value, blinding), low, high


CIRCUIT = Circuit(
    name="range_proof",
    statement="the number committed to in `commitment` lies in [`min`, `max`]",
    shape={"value": None, "blinding": None, "min": None, "max": None},
    public=("commitment", "min", "max"),
    request=RangeRequest,
    evaluate=_evaluate,
    sample={"value": 42, "min": 18, "max": 120, "blinding": 7},
)
