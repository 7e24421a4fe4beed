"""Delay before the next retry, as a value without a clock or randomness of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff in seconds with jitter: a delay lies in the upper half of its step.

    Half of each step is fixed, so that retries spread without becoming a busy loop.
    """

    initial: float
    ceiling: float
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.ceiling and self.factor >= 1):
            raise ValueError(f"backoff: needs 0 < initial <= ceiling and factor >= 1, not {self}")

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after `failures` (1 or more) in a row.

        Args:
            chance: random number in [0, 1) that determines the jitter.
        """
        # The exponent is capped so that a week of failures does not overflow a float.
        step = min(self.ceiling, self.initial * self.factor ** min(failures - 1, 64))
        return step * (0.5 + chance / 2)
