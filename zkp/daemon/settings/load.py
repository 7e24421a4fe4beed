"""Configuration of every daemon: a YAML file, then the environment, then the schema's rules.

The value of `database.host` comes from COORDINATOR_DATABASE_HOST when that is set, else from the file,
else from the schema's default. The names of the variables are derived from the schema, so that
COORDINATOR_DATABASE_MAX_OPEN_CONNS can mean nothing but `database.max_open_conns`. `${NAME}` inside the
file's text is replaced by that variable. Everything unknown is refused, with the nearest known name.
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
    "string_type": "must be text, in quotes where YAML would read a number",
}
_OUT_OF_RANGE = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})


def load(
    schema: type[S],
    path: Path,
    prefix: str,
    environ: Mapping[str, str] = os.environ,
    aliases: Mapping[str, str] | None = None,
) -> S:
    """The settings in the file at `path` and in the environment. Raises SettingsError: one line."""
    return read(schema, path, prefix, environ, aliases).settings


def read(
    schema: type[S],
    path: Path,
    prefix: str,
    environ: Mapping[str, str] = os.environ,
    aliases: Mapping[str, str] | None = None,
) -> "LoadedSettings[S]":
    """Like `load`, and remembers where each value came from, for checks that come later.

    prefix: the beginning of this daemon's variables ("COORDINATOR"); others are not looked at.
    aliases: further variables by the dotted key they set; one with the prefix wins over them.
    """
    file = document.read(path)
    found, problems = overrides(schema, prefix, environ, aliases or {})
    origin = _Origin(schema, path, file, prefix, {leaf.key: name for name, leaf in found.items()})
    expansion = Expansion(environ)
    values = {key: expansion.of(value, (key,)) for key, value in file.values.items()}
    problems += [
        origin.problem(location, what, cure)
        for location, what, cure in expansion.faults
        if origin.variable_of(location) is None  # what the environment replaces need not be good
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
    """Settings and the places they came from."""

    settings: S
    origin: "_Origin"

    def require(self, faults: Iterable[SettingFault]) -> S:
        """The settings, when there are no faults. Raises SettingsError that places each fault."""
        problems = [self.origin.problem(fault.location, fault.what, fault.cure) for fault in faults]
        if problems:
            raise SettingsError(problems)
        return self.settings


@dataclass(frozen=True, slots=True)
class _Origin:
    """Knows for each key the line or the variable that set it; words problems."""

    schema: type[Section]
    path: Path
    file: Document
    prefix: str
    variables: Mapping[str, str]

    def variable_of(self, location: Location) -> str | None:
        """The variable that set this value, or a list around it."""
        return next((self.variables[key] for key in names_in(location) if key in self.variables), None)

    def problem(self, location: Location, what: str, cure: str) -> SettingProblem:
        if variable := self.variable_of(location):
            return SettingProblem(str(self.path), f"{dotted(location)} (set by {variable})", what, cure)
        line = self.file.line_of(location)
        return SettingProblem(f"{self.path}:{line}" if line else str(self.path), dotted(location), what, cure)

    def problems(self, error: ValidationError) -> list[SettingProblem]:
        """Every error in the order of the file; what is missing comes last: a misspelt key may explain it."""
        details = error.errors(include_url=False, include_input=False)
        worth_telling = [each for each in details if not _is_consequence(each, details)]
        worth_telling.sort(key=lambda each: (each["type"] == "missing", self.file.line_of(each["loc"]) or 0))
        return [self.problem(each["loc"], *self._worded(each)) for each in worth_telling]

    def _worded(self, error: ErrorDetails) -> tuple[str, str]:
        location = error["loc"]
        context: Mapping[str, Any] = error.get("ctx", {})
        if error["type"] == RULE:
            return context["what"], context["cure"]
        if error["type"] == "missing":
            return "is missing", self._cure_of_missing(location)
        if error["type"] == "extra_forbidden":
            return "unknown key", self._cure_of_unknown(location)
        if error["type"] in _OUT_OF_RANGE and (allowed := allowed_range(find(self.schema, location)[1])):
            return f"must be {allowed}", self._cure_by_example(location)
        what = _KINDS.get(error["type"], error["msg"].replace("Input should", "must"))
        return what[:1].lower() + what[1:], self._cure_by_example(location)

    def _cure_of_missing(self, location: Location) -> str:
        variable = f"{self.prefix}_{'_'.join(map(str, location))}".upper()
        settable = any(leaf.location == location for leaf in leaves(self.schema))
        shown = example(find(self.schema, location)[1])
        such = f", such as {shown}" if shown else ""
        return f"add it, or set {variable}{such}" if settable else f"add it{such}"

    def _cure_of_unknown(self, location: Location) -> str:
        section, _ = find(self.schema, location)
        around = location[:-1]
        known = {name: dotted((*around, name)) for name in (section.model_fields if section else ())}
        elsewhere = {leaf.location[-1]: leaf.key for leaf in leaves(self.schema)}
        word = str(location[-1])
        if close := nearest(word, known) or elsewhere.get(word):
            return f"did you mean {close}?"
        return f"remove it; known here: {', '.join(known)}"

    def _cure_by_example(self, location: Location) -> str:
        _, field = find(self.schema, location)
        if shown := example(field):
            return f"give for example {shown}"
        return f"it is {field.description.rstrip('.')}" if field and field.description else "fix this value"


def _is_consequence(error: ErrorDetails, details: Iterable[ErrorDetails]) -> bool:
    """A list counts as too short when its items are refused: then they are what is wrong."""
    location = error["loc"]
    return error["type"] == "too_short" and any(
        len(each["loc"]) > len(location) and each["loc"][: len(location)] == location for each in details
    )
