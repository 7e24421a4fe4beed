"""`addition`: I know two 64-bit numbers whose sum is `sum`."""

from zkp.proofs.circuit import WORD, Circuit, Word
from zkp.proofs.errors import UnsatisfiedInputs
from zkp.proofs.request import Request
from zkp.proofs.signals import Signals


class AdditionRequest(Request):
    """Two numbers."""

    a: Word
    b: Word

    def signals(self) -> Signals:
        """Return the circuit's signals."""
        return {"a": (self.a,), "b": (self.b,)}


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
    request=AdditionRequest,
    evaluate=_evaluate,
    sample={"a": 20, "b": 22},
)
