"""Errors of configurations, as one line each: position, key, what is wrong and what to do.

Only values that are known to be harmless are quoted: a password that is under the wrong key, or in a malformed line,
must not reach a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingFault:
    """A value that violates a rule. `key` is relative to the section that states the rule: `peers.1.id`."""

    key: str
    what: str
    hint: str

    @property
    def location(self) -> tuple[str | int, ...]:
        """Return the key as a path, with the indices of lists as numbers."""
        return tuple(int(part) if part.isdigit() else part for part in self.key.split("."))


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """A fault with its position: `source` is the file, with the line if it is known."""

    source: str
    key: str
    what: str
    hint: str

    def __str__(self) -> str:
        position = f"{self.source}: {self.key}" if self.key else self.source
        text = f"{position}: {self.what}; {self.hint}" if self.hint else f"{position}: {self.what}"
        return " ".join(text.split())


class SettingsError(Exception):
    """The configuration is invalid. `str()` is one line, about the first of its `problems`."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        self.problems = tuple(problems)
        rest = len(self.problems) - 1
        more = f" ({rest} more after this one)" if rest else ""
        super().__init__(f"{self.problems[0]}{more}")


class SchemaError(TypeError):
    """A schema in which two keys share one environment variable: a mistake in the program."""
