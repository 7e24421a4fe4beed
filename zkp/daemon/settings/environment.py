"""What the environment adds to a file: `${NAME}` inside its values, and variables that override its keys."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zkp.daemon.settings.document import Location, dotted, parse_value
from zkp.daemon.settings.errors import SettingProblem, SettingsError
from zkp.daemon.settings.schema import SettingField, nearest, variables
from zkp.daemon.settings.section import Section

_DOLLAR = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<open>\{))")


@dataclass(slots=True)
class Expansion:
    """Replaces `${NAME}` by the variable and `$$` by a dollar sign, in text values alone.

    What comes in is never read as YAML again, so a password may hold any character. `faults` collects
    what went wrong, by the path of the value.
    """

    environ: Mapping[str, str]
    faults: list[tuple[Location, str, str]] = field(default_factory=list)

    def of(self, value: object, location: Location = ()) -> object:
        if isinstance(value, dict):
            return {key: self.of(item, (*location, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, (*location, index)) for index, item in enumerate(value)]
        if isinstance(value, str):
            return _DOLLAR.sub(lambda match: self._replacement(match, location), value)
        return value

    def _replacement(self, match: re.Match[str], location: Location) -> str:
        if match["escaped"]:
            return "$"
        if match["open"]:
            self.faults.append(
                (location, "has a '${' that names no variable", "write ${NAME}, or $$ for a dollar sign")
            )
            return ""
        name = match["name"]
        if name not in self.environ:
            cure = f"set {name}, or write $$ for a dollar sign"
            self.faults.append((location, f"${{{name}}} is not set in the environment", cure))
        return self.environ.get(name, "")


def overrides(
    schema: type[Section], prefix: str, environ: Mapping[str, str], aliases: Mapping[str, str]
) -> tuple[dict[str, SettingField], list[SettingProblem]]:
    """The variables that are set, each with the leaf it sets, and a problem for each that names none.

    Aliases (variable → dotted key) come first, so that a variable with the daemon's prefix wins over them.
    """
    known = variables(schema, prefix)
    by_key = {leaf.key: leaf for leaf in known.values()}
    found = {name: by_key[key] for name, key in aliases.items() if name in environ}
    problems = []
    for name in sorted(environ):
        if name in known:
            found[name] = known[name]
        elif name.startswith(f"{prefix}_"):
            # The prefix they share would make everything look near.
            close = nearest(name.removeprefix(prefix), {each.removeprefix(prefix): each for each in known})
            cure = f"did you mean {close}?" if close else f"remove it, or name a key, such as {next(iter(known))}"
            problems.append(SettingProblem("environment", name, "unknown environment variable", cure))
    return found, problems


def overlay(values: dict[str, object], variable: str, leaf: SettingField, text: str) -> None:
    """Put the variable's text at the leaf's place. Raises SettingsError when a list is not YAML."""
    value: object = text
    if leaf.structured:
        try:
            value = parse_value(text, variable)
        except SettingsError:
            cure = "give a list as YAML or JSON, such as ['127.0.0.1:9090', '127.0.0.1:9190']"
            raise SettingsError([SettingProblem("environment", variable, "is not YAML", cure)]) from None
    place = values
    for part in leaf.location[:-1]:
        inner = place.setdefault(part, {})
        if inner is None:  # a section whose keys are all commented out
            inner = place[part] = {}
        if not isinstance(inner, dict):
            return  # the schema will refuse this section, and say so
        place = inner
    place[leaf.location[-1]] = value


def names_in(location: Location) -> Iterator[str]:
    """The dotted keys of the value and of everything around it, the innermost first."""
    for length in range(len(location), 0, -1):
        yield dotted(location[:length])
