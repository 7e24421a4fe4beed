"""Environment variables in a configuration: `${NAME}` in its values, and variables that override its keys."""

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
    """Replaces `${NAME}` by the variable and `$$` by a dollar sign, in text values only.

    The result is never parsed as YAML, so a password may contain any character. `faults` collects the errors as
    (path of the value, what is wrong, what to do).
    """

    environ: Mapping[str, str]
    faults: list[tuple[Location, str, str]] = field(default_factory=list)

    def expand(self, value: object, location: Location = ()) -> object:
        """Return the value with every variable in it replaced."""
        if isinstance(value, dict):
            return {key: self.expand(item, (*location, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, (*location, index)) for index, item in enumerate(value)]
        if isinstance(value, str):
            return _DOLLAR.sub(lambda match: self._replacement(match, location), value)
        return value

    def _replacement(self, match: re.Match[str], location: Location) -> str:
        if match["escaped"]:
            return "$"
        if match["open"]:
            self.faults.append(
                (location, "has a '${' without a variable name", "write ${NAME}, or $$ for a dollar sign")
            )
            return ""
        name = match["name"]
        if name not in self.environ:
            hint = f"set {name}, or write $$ for a dollar sign"
            self.faults.append((location, f"${{{name}}} is not set in the environment", hint))
        return self.environ.get(name, "")


def overrides(
    schema: type[Section], prefix: str, environ: Mapping[str, str], aliases: Mapping[str, str]
) -> tuple[dict[str, SettingField], list[SettingProblem]]:
    """Return the variables that are set, each with the field that it sets, and a problem for each unknown one.

    Aliases (variable → dotted key) are read first, so that a variable with the daemon's prefix overrides them.
    """
    known = variables(schema, prefix)
    by_key = {leaf.key: leaf for leaf in known.values()}
    found = {name: by_key[key] for name, key in aliases.items() if name in environ}
    problems = []
    for name in sorted(environ):
        if name in known:
            found[name] = known[name]
        elif name.startswith(f"{prefix}_"):
            # Compared without the shared prefix, which would make all names similar.
            close = nearest(name.removeprefix(prefix), {each.removeprefix(prefix): each for each in known})
            hint = f"did you mean {close}?" if close else f"remove it, or use one such as {next(iter(known))}"
            problems.append(SettingProblem("environment", name, "unknown variable", hint))
    return found, problems


def overlay(values: dict[str, object], variable: str, leaf: SettingField, text: str) -> None:
    """Set the value of a field to the text of a variable.

    Raises:
        SettingsError: The field is a list or mapping, and the text is not valid YAML.
    """
    value: object = text
    if leaf.structured:
        try:
            value = parse_value(text, variable)
        except SettingsError:
            hint = "give a list as YAML or JSON, such as ['127.0.0.1:9090', '127.0.0.1:9190']"
            raise SettingsError([SettingProblem("environment", variable, "is not valid YAML", hint)]) from None
    section = values
    for part in leaf.location[:-1]:
        inner = section.setdefault(part, {})
        if inner is None:  # a section whose keys are all commented out
            inner = section[part] = {}
        if not isinstance(inner, dict):
            return  # the validation of the schema reports this section
        section = inner
    section[leaf.location[-1]] = value


def names_in(location: Location) -> Iterator[str]:
    """Yield the dotted keys of the value and of the sections and lists around it, innermost first."""
    for length in range(len(location), 0, -1):
        yield dotted(location[:length])
