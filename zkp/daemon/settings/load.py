"""Configuration of every daemon: a YAML file, then the environment, then the schema's rules.

The value of `database.host` is COORDINATOR_DATABASE_HOST if that is set, otherwise the value in the file, otherwise
the schema's default. The names of the variables are derived from the schema, so that
COORDINATOR_DATABASE_MAX_OPEN_CONNS can only mean `database.max_open_conns`. `${NAME}` in a value of the file is
replaced by that variable. Unknown keys and variables are errors that suggest the nearest known name.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zkp.daemon.settings import document
from zkp.daemon.settings.document import Document, Location, dotted
from zkp.daemon.settings.environment import Expansion, names_in, overlay, overrides
from zkp.daemon.settings.errors import SettingFault, SettingProblem, SettingsError
from zkp.daemon.settings.schema import allowed_range, example, find, leaves, nearest
from zkp.daemon.settings.section import RULE, Section

S = TypeVar("S", bound=Section)

_KINDS = {
    "model_type": "must be a section: keys below it, indented",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_type": "must be text, in quotes if it looks like a number",
}
_OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})


def load(
    schema: type[S],
    path: Path,
    prefix: str,
    environ: Mapping[str, str] = os.environ,
    aliases: Mapping[str, str] | None = None,
) -> S:
    """Return the settings from the file at `path` and the environment.

    Raises:
        SettingsError: The configuration is invalid.
    """
    return read(schema, path, prefix, environ, aliases).settings


def read(
    schema: type[S],
    path: Path,
    prefix: str,
    environ: Mapping[str, str] = os.environ,
    aliases: Mapping[str, str] | None = None,
) -> "LoadedSettings[S]":
    """Return the settings like `load`, with the origin of each value for later checks.

    Args:
        schema: Root section of the daemon's configuration.
        path: YAML file.
        prefix: Prefix of this daemon's variables ("COORDINATOR"); variables with other prefixes are ignored.
        environ: Environment variables.
        aliases: Further variables, each with the dotted key that it sets; one with the prefix overrides them.

    Raises:
        SettingsError: The configuration is invalid.
    """
    file = document.read(path)
    found, problems = overrides(schema, prefix, environ, aliases or {})
    origin = _Origin(schema, path, file, prefix, {leaf.key: name for name, leaf in found.items()})
    expansion = Expansion(environ)
    values = {key: expansion.expand(value, (key,)) for key, value in file.values.items()}
    problems += [
        origin.problem(location, what, hint)
        for location, what, hint in expansion.faults
        if origin.variable_of(location) is None  # a value that the environment overrides may be invalid
    ]
    if problems:
        raise SettingsError(problems)
    for name, leaf in found.items():
        overlay(values, name, leaf, environ[name])
    try:
        settings = schema.model_validate(values, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise SettingsError(origin.problems(error)) from None
    return LoadedSettings(settings, origin)


@dataclass(frozen=True, slots=True)
class LoadedSettings(Generic[S]):
    """Settings with the origin of each value."""

    settings: S
    origin: "_Origin"

    def require(self, faults: Iterable[SettingFault]) -> S:
        """Return the settings if there are no faults.

        Raises:
            SettingsError: There are faults; the error holds each with its position.
        """
        problems = [self.origin.problem(fault.location, fault.what, fault.hint) for fault in faults]
        if problems:
            raise SettingsError(problems)
        return self.settings


@dataclass(frozen=True, slots=True)
class _Origin:
    """Origin of each value, a line or a variable, for the text of problems."""

    schema: type[Section]
    path: Path
    file: Document
    prefix: str
    variables: Mapping[str, str]

    def variable_of(self, location: Location) -> str | None:
        """Return the variable that set this value or a list that contains it."""
        return next((self.variables[key] for key in names_in(location) if key in self.variables), None)

    def problem(self, location: Location, what: str, hint: str) -> SettingProblem:
        if variable := self.variable_of(location):
            return SettingProblem(str(self.path), f"{dotted(location)} (set by {variable})", what, hint)
        line = self.file.line_of(location)
        return SettingProblem(f"{self.path}:{line}" if line else str(self.path), dotted(location), what, hint)

    def problems(self, error: ValidationError) -> list[SettingProblem]:
        """Return every error in the order of the file, missing keys last: a misspelt key may be their cause."""
        details = error.errors(include_url=False, include_input=False)
        causes = [each for each in details if not _is_consequence(each, details)]
        causes.sort(key=lambda each: (each["type"] == "missing", self.file.line_of(each["loc"]) or 0))
        return [self.problem(each["loc"], *self._describe(each)) for each in causes]

    def _describe(self, error: ErrorDetails) -> tuple[str, str]:
        location = error["loc"]
        context: Mapping[str, Any] = error.get("ctx", {})
        if error["type"] == RULE:
            return context["what"], context["hint"]
        if error["type"] == "missing":
            return "is missing", self._hint_for_missing(location)
        if error["type"] == "extra_forbidden":
            return "unknown key", self._hint_for_unknown(location)
        if error["type"] in _OUT_OF_RANGE and (allowed := allowed_range(find(self.schema, location)[1])):
            return f"must be {allowed}", self._hint_by_example(location)
        what = _KINDS.get(error["type"], error["msg"].replace("Input should", "must"))
        return what[:1].lower() + what[1:], self._hint_by_example(location)

    def _hint_for_missing(self, location: Location) -> str:
        variable = f"{self.prefix}_{'_'.join(map(str, location))}".upper()
        settable = any(leaf.location == location for leaf in leaves(self.schema))
        shown = example(find(self.schema, location)[1])
        suffix = f", such as {shown}" if shown else ""
        return f"add it, or set {variable}{suffix}" if settable else f"add it{suffix}"

    def _hint_for_unknown(self, location: Location) -> str:
        section, _ = find(self.schema, location)
        around = location[:-1]
        known = {name: dotted((*around, name)) for name in (section.model_fields if section else ())}
        elsewhere = {leaf.location[-1]: leaf.key for leaf in leaves(self.schema)}
        word = str(location[-1])
        if close := nearest(word, known) or elsewhere.get(word):
            return f"did you mean {close}?"
        return f"remove it; known keys: {', '.join(known)}"

    def _hint_by_example(self, location: Location) -> str:
        _, field = find(self.schema, location)
        if shown := example(field):
            return f"give for example {shown}"
        return f"expected: {field.description.rstrip('.')}" if field and field.description else "correct this value"


def _is_consequence(error: ErrorDetails, details: Iterable[ErrorDetails]) -> bool:
    """Return whether a list is too short only because its items are invalid."""
    location = error["loc"]
    return error["type"] == "too_short" and any(
        len(each["loc"]) > len(location) and each["loc"][: len(location)] == location for each in details
    )
