"""`addition`: I know two 64-bit numbers whose sum is `sum`."""

from collections.abc import Mapping

from proofs.circuit import WORD, Circuit, word
from proofs.errors import UnsatisfiedInputs
from proofs.signals import Signals


def _read(request: Mapping[str, object]) -> Signals:
    return {name: (word(name, request.get(name)),) for name in ("a", "b")}


def _evaluate(signals: Signals) -> tuple[int, ...]:
    (a,), (b,) = signals["a"], signals["b"]
    for name, number in (("a", a), ("b", b)):
        if number >= WORD:
            raise UnsatisfiedInputs(f"{name} must be below 2^64")
    return (a + b,)


CIRCUIT = Circuit(
    name="addition",
    statement="the prover knows two numbers below 2^64 whose sum is `sum`",
    shape={"a": None, "b": None},
    public=("sum",),
    request=("a", "b"),
    read=_read,
    evaluate=_evaluate,
    sample={"a": 20, "b": 22},
)
