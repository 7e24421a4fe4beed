"""What is wrong with a configuration, said in one line: where, which key, what, and the cure.

No value that was not recognised as harmless ever enters these texts: a password that ended up under the
wrong key, or in a broken line, must not reach a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingFault:
    """A value that breaks a rule. `key` is relative to the section that states the rule: `peers.1.id`."""

    key: str
    what: str
    cure: str

    @property
    def location(self) -> tuple[str | int, ...]:
        """The key as a path, the indices of lists as numbers."""
        return tuple(int(part) if part.isdigit() else part for part in self.key.split("."))


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """A fault with its place: `source` is the file, with the line where it is known."""

    source: str
    key: str
    what: str
    cure: str

    def __str__(self) -> str:
        place = f"{self.source}: {self.key}" if self.key else self.source
        text = f"{place}: {self.what}; {self.cure}" if self.cure else f"{place}: {self.what}"
        return " ".join(text.split())


class SettingsError(Exception):
    """The configuration cannot be used. `str()` is one line, about the first of its `problems`."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        self.problems = tuple(problems)
        rest = len(self.problems) - 1
        more = f" ({rest} more after this one)" if rest else ""
        super().__init__(f"{self.problems[0]}{more}")


class SchemaError(TypeError):
    """A schema that no environment can address without ambiguity: a mistake in the program."""
