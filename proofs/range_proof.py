"""`range_proof`: the number that I committed to lies in [min, max]."""

import secrets
from collections.abc import Mapping

from proofs.circuit import WORD, Circuit, element, word
from proofs.errors import InputError, UnsatisfiedInputs
from proofs.field import ORDER
from proofs.poseidon import poseidon
from proofs.signals import Signals


def _read(request: Mapping[str, object]) -> Signals:
    value, low, high = (word(name, request.get(name)) for name in ("value", "min", "max"))
    if low > high:
        raise InputError("min", "is above max; the range would be empty")
    if value < low:
        raise InputError("value", "is below min; no proof of that can exist")
    if value > high:
        raise InputError("value", "is above max; no proof of that can exist")
    given = request.get("blinding")
    # Without blinding, a commitment to a number from a small range could be found by trying.
    blinding = secrets.randbelow(ORDER) if given is None else element("blinding", given)
    return {"value": (value,), "blinding": (blinding,), "min": (low,), "max": (high,)}


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
    request=("value", "min", "max", "blinding"),
    read=_read,
    evaluate=_evaluate,
    sample={"value": 42, "min": 18, "max": 120, "blinding": 7},
)
