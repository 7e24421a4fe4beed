"""A YAML file as plain values, with the line number of each.

Stricter than YAML: duplicate keys, aliases and tags are errors, and only `true` and `false` are booleans, so that
`no`, `1:30` or a date stay text, as the operator wrote them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zkp.daemon.settings.errors import SettingProblem, SettingsError

Location = tuple[str | int, ...]

_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,18}", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]{1,18}\.[0-9]*|[0-9]{1,18}(?=[eE]))(?:[eE][-+]?[0-9]{1,2})?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL", "~nN"),
)
_CONVERSIONS: dict[str, Callable[[str], object]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: text.lower() == "true",
    "null": lambda _: None,
}
_TAG = "tag:yaml.org,2002:"


class _CoreLoader(yaml.BaseLoader):
    """Loader for the core schema of YAML 1.2, without the additional scalars of YAML 1.1 and without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML's
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in PyYAML's stubs
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not allowed here; put text that begins with one in quotes",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


for _name, _pattern, _starts in _SCALARS:
    _CoreLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_starts))
_CoreLoader.add_implicit_resolver(f"{_TAG}null", re.compile(r"\Z"), [""])


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file, and `lines`: the line (from 1) of every value, by its path of keys and indices."""

    values: dict[str, object]
    lines: dict[Location, int] = field(default_factory=dict)

    def line_of(self, location: Location) -> int | None:
        """Return the line of the value, or of the innermost part of its path that is in the file."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return None


def read(path: Path) -> Document:
    """Return the values of a file.

    Raises:
        SettingsError: The file cannot be read, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _error(str(path), "no such file", "give the path of a configuration file") from None
    except UnicodeDecodeError:
        raise _error(str(path), "is not UTF-8 text", "give a YAML file") from None
    except OSError as error:
        hint = "give a file that this process may read"
        raise _error(str(path), f"cannot be read ({error.strerror})", hint) from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """Return the values of a YAML text, which must be a mapping.

    Raises:
        SettingsError: The text is not valid, or is not a mapping.
    """
    document = Document(values={})
    values = parse_value(text, source, document.lines)
    if values is None:
        raise _error(source, "is empty", "write the configuration into it, as YAML")
    if not isinstance(values, dict):
        raise _error(source, "is not a mapping", "write YAML of the form `key: value`")
    document.values.update(values)
    return document


def parse_value(text: str, source: str, lines: dict[Location, int] | None = None) -> object:
    """Return the value of any YAML (and therefore JSON) text.

    Raises:
        SettingsError: The text is not valid. The error never quotes the text itself.
    """
    reader = _Reader(source, {} if lines is None else lines)
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else reader.value(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # Longer quoted parts of PyYAML's messages are parts of the file, which may contain secrets.
        what = re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "…", error.problem or error.context or "malformed")
        mark = error.problem_mark or error.context_mark
        raise reader.error(mark, f"is not valid YAML: {what}", "fix this line") from None
    except yaml.YAMLError:
        raise reader.error(None, "is not valid YAML: unprintable characters", "give a text file") from None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Converts a tree of YAML nodes to values, and stores the line of each."""

    source: str
    lines: dict[Location, int]

    def value(self, node: yaml.Node, location: Location) -> object:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        convert = _CONVERSIONS.get(node.tag.removeprefix(_TAG))
        if convert is None:
            raise self.error(node.start_mark, "a YAML tag is not allowed here", "put the text in quotes")
        return convert(str(node.value))

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                raise self.error(key_node.start_mark, "a key is not text", "put the key in quotes")
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            path = (*location, key)
            if key in values:
                what = f"duplicate key, first on line {self.lines[path]}"
                problem = SettingProblem(f"{self.source}:{line}", dotted(path), what, "remove one of the two")
                raise SettingsError([problem])
            self.lines[path] = line
            values[key] = self.value(value_node, path)
        return values

    def error(self, mark: yaml.Mark | None, what: str, hint: str) -> SettingsError:
        position = self.source if mark is None else f"{self.source}:{mark.line + 1}"
        return _error(position, what, hint)


def dotted(location: Location) -> str:
    """Return the path as operators write it: `raft.peers[1].id`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _error(source: str, what: str, hint: str) -> SettingsError:
    return SettingsError([SettingProblem(source, "", what, hint)])
