"""How long to wait before the next try: a value, without clock or randomness of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off in seconds with jitter: a delay lies in the upper half of its step.

    Half of each step is certain, so that retries spread without ever becoming a busy loop.
    """

    initial: float
    ceiling: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.ceiling and self.factor >= 1):
            raise ValueError(f"back-off needs 0 < initial <= ceiling and factor >= 1, not {self}")

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after `failures` (1 or more) in a row; `chance` in [0, 1) is the caller's."""
        # The exponent is capped so that a week of failures does not overflow a float.
        step = min(self.ceiling, self.initial * self.factor ** min(failures - 1, 64))
        return step * (0.5 + chance / 2)
