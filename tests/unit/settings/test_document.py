"""YAML as operators meant it, with lines, and refusals that never quote the file."""

from pathlib import Path

import pytest

from zkp.daemon.settings.document import Document, dotted, parse, parse_value, read
from zkp.daemon.settings.errors import SettingsError


def refused(text: str) -> str:
    """The one line with which a text is refused."""
    with pytest.raises(SettingsError) as caught:
        parse(text, "node.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_and_the_lines_they_stand_on() -> None:
    """Each value is found by its path, and so is its line; an unknown path has the line of what is around it."""
    document = parse("a: 1\nb:\n  c:\n    - x\n    - {d: true}\n", "node.yaml")
    assert document.values == {"a": 1, "b": {"c": ["x", {"d": True}]}}
    assert document.line_of(("a",)) == 1
    assert document.line_of(("b", "c")) == 3
    assert document.line_of(("b", "c", 1, "d")) == 5
    assert document.line_of(("b", "c", 1, "missing")) == 5
    assert document.line_of(("missing",)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1e999999", "1e999999"),
        ("9" * 5000, "9" * 5000),
        ("<<", "<<"),
        ("007", 7),
        ("-3", -3),
        ("2.5", 2.5),
        ("1e3", 1000.0),
        ("True", True),
        ("false", False),
        ("'1'", "1"),
        ("~", None),
        ("", None),
        ("'~'", "~"),
        ('["a", {"b": 1}]', ["a", {"b": 1}]),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    """Only true and false are booleans, only decimal numbers are numbers; everything else stays text."""
    assert parse_value(text, "node.yaml") == value


def test_duplicate_keys_are_refused_with_both_lines() -> None:
    """A key that is given twice is an error, at any depth, that names both lines."""
    assert refused("a: 1\nb: 2\na: 3\n") == ("node.yaml:3: a: duplicate key, first on line 1; remove one of the two")
    assert refused("raft:\n  peers:\n  - id: x\n    id: y\n") == (
        "node.yaml:4: raft.peers[0].id: duplicate key, first on line 3; remove one of the two"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "node.yaml: is empty; write the configuration into it, as YAML"),
        ("# nothing\n", "node.yaml: is empty; write the configuration into it, as YAML"),
        ("- a\n", "node.yaml: is not a mapping; write YAML of the form `key: value`"),
        ("text", "node.yaml: is not a mapping; write YAML of the form `key: value`"),
        ("a: 1\n\tb: 2\n", "node.yaml:2: is not valid YAML"),
        ("a: [1, 2\nb: 3\n", "node.yaml:2: is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "node.yaml:2: is not valid YAML"),
        ("a: 'open\n", "is not valid YAML"),
        ("a: \x01\n", "node.yaml: is not valid YAML: unprintable characters; give a text file"),
        ("a: 1\n1: b\n", "node.yaml:2: a key is not text; put the key in quotes"),
        ("? [a]\n: b\n", "node.yaml:1: a key is not text; put the key in quotes"),
        ("a: 1\nb: !!python/name:os.system x\n", "node.yaml:2: a YAML tag is not allowed here"),
        ("a: &x 1\n", "node.yaml:1: is not valid YAML: anchors (&) and aliases (*) are not allowed here"),
        ("a: 1\nb: *x\n", "node.yaml:2: is not valid YAML: anchors (&) and aliases (*) are not allowed here"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(text: str, said: str) -> None:
    """Whatever is wrong with the YAML, one line names the file, the line where there is one, and the cure."""
    assert said in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "password: *hunter2",
        "password: &hunter2",
        "password: !hunter2 x",
        "password: 'hunter2",
        'password: "hunter2',
        "password: [hunter2",
        "password: %hunter2: hunter2: {",
        "password: @hunter2",
        "hunter2: hunter2: hunter2",
        "%hunter2",
        "--- hunter2\n--- hunter2",
    ],
)
def test_a_secret_in_a_broken_line_is_not_quoted(text: str) -> None:
    """However the line with a password is broken, the refusal does not repeat it."""
    assert "hunter2" not in refused(text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, a directory and a file that is no text are refused by name."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, said in (
        (tmp_path / "absent.yaml", "no such file; give the path of a configuration file"),
        (tmp_path, "cannot be read (Is a directory); give a file that this process may read"),
        (tmp_path / "binary", "is not UTF-8 text; give a YAML file"),
    ):
        with pytest.raises(SettingsError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {said}"


def test_paths_are_written_as_operators_do() -> None:
    """Keys are joined by dots, indices stand in brackets."""
    assert dotted(("raft", "peers", 1, "id")) == "raft.peers[1].id"
    assert Document(values={}).line_of(()) is None
