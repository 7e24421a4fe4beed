"""Building submissions from options and files."""

import io
import json
import re
from pathlib import Path

import pytest

from zkp.cli import requests
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.proofs import InputError
from zkp.proofs.field import ORDER
from zkp.proofs.tree import EMPTY


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Replace standard input by `data`."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_private_values_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--inputs -` reads private values from standard input instead of the arguments."""
    pipe(monkeypatch, b'{"value": 42}')

    assert requests.read_inputs(Path("-")) == {"value": 42}


def test_no_inputs_file_is_no_fields() -> None:
    """Without an inputs file there are no fields."""
    assert requests.read_inputs(None) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not valid JSON, line 1, column 2"),
        ("[1]", "is a list, not a JSON object"),
        ('{"value": 1, "value": 2}', 'the key "value" is duplicated'),
        ('{"value": NaN}', "NaN is not JSON"),
        ('{"value": 1e999}', "a number is too large"),
        ('{"value": ' + "9" * 5000 + "}", "a number has 5000 digits"),
        ('{"value": ' + "[" * 33 + "]" * 33 + "}", "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        (" " * (16 * 2**20 + 1), "is larger than 16 MiB"),
    ],
    ids=("cut off", "list", "twice", "NaN", "overflow", "digits", "33 levels", "100,000 levels", "size"),
)
def test_a_broken_inputs_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the file, the position and the fix."""
    path = tmp_path / "inputs.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(CommandFailed, match=rf"inputs\.json: .*{re.escape(reason)}.*; (write|give)"):
        requests.read_inputs(path)


def test_a_byte_order_mark_is_no_part_of_the_inputs(tmp_path: Path) -> None:
    """A byte order mark is ignored."""
    path = tmp_path / "inputs.json"
    path.write_text('{"value": 42}', encoding="utf-8-sig")

    assert requests.read_inputs(path) == {"value": 42}


def test_a_missing_inputs_file_is_named(tmp_path: Path) -> None:
    """The error has the reason of the operating system."""
    with pytest.raises(CommandFailed, match=r"none\.json: cannot be read: No such file"):
        requests.read_inputs(tmp_path / "none.json")


def test_options_and_inputs_complete_each_other() -> None:
    """Fields of options and of the file are combined."""
    merged = requests.merge({"value": 42}, {"min": "18", "max": None})

    assert merged == {"value": 42, "min": "18"}


def test_a_field_given_twice_is_refused() -> None:
    """A field that is given twice is an error."""
    with pytest.raises(UsageProblem, match="value: is given both as an option and in --inputs"):
        requests.merge({"value": 42}, {"value": "43"})


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("address\n0x1f\n0x2e\n", ["0x1f", "0x2e"]),
        ("1\n2\n\n3\n", ["1", "2", "3"]),
        ("7,seven\r\n8,eight\r\n", ["7", "8"]),
        ("\ufeff1\n2\n3\n", ["1", "2", "3"]),
        ("\ufeffaddress\n0x1f\n", ["0x1f"]),
        ("\n \n,\nleaf,name\n5,five\n", ["5"]),
        ("heading\n", []),
        ("", []),
    ],
)
def test_lists_are_read_with_and_without_heading(tmp_path: Path, text: str, entries: list[str]) -> None:
    """Entries are lines or the first column of a CSV; empty lines are skipped."""
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8", newline="")

    assert requests.read_leaves(path) == entries


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A binary file is rejected."""
    path = tmp_path / "list.bin"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(CommandFailed, match=r"list\.bin: byte 0 is not UTF-8"):
        requests.read_leaves(path)


def test_a_list_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--leaves -` reads the list from standard input."""
    pipe(monkeypatch, b"\xef\xbb\xbf1\r\n2\r\n")

    assert requests.read_leaves(Path("-")) == ["1", "2"]
    pipe(monkeypatch, b"1\n-2\n")
    with pytest.raises(InputError, match=r"^standard input, line 2: is not a whole number"):
        requests.read_leaves(Path("-"))


@pytest.mark.parametrize(
    "first",
    [
        "-5",
        "+1",
        ".5",
        "O",
        "l",
        "oI",
        "deadbeef",
        "NaN",
        "N/A",
        "xff",
        "OxFF",
        "'1",
        "#7",
        "$5",
        "EUR 5",
        "leaf1",
        "\u0661",
        "½",
        "--",
    ],
)
def test_a_first_line_that_may_be_meant_as_a_number_is_no_heading(tmp_path: Path, first: str) -> None:
    """A malformed number in the first line is rejected with the line and the option, not skipped as a heading."""
    path = tmp_path / "list.csv"
    path.write_text(f"{first}\n2\n3\n", encoding="utf-8")

    with pytest.raises(InputError, match=r"list\.csv, line 1: is not a whole number.*; .* give --heading") as refused:
        requests.read_leaves(path)

    assert refused.value.field == f"{path}, line 1"


@pytest.mark.parametrize("first", ["address", "leaf", "code", "field", "id", "# members", "Mitglied", "номер"])
def test_a_heading_is_skipped_with_a_note(tmp_path: Path, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A word without digits is a heading, with a note on standard error only."""
    path = tmp_path / "list.csv"
    path.write_text(f"{first}\n2\n", encoding="utf-8")

    assert requests.read_leaves(path) == ["2"]

    said = capsys.readouterr()
    assert f"list.csv, line 1: {first!a} is treated as a heading" in said.err
    assert said.out == ""


def test_a_heading_can_be_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--heading` skips any first line, `--no-heading` none."""
    path = tmp_path / "list.csv"
    path.write_text("2026\n2\n", encoding="utf-8")

    assert requests.read_leaves(path, heading=True) == ["2"]
    assert requests.read_leaves(path, heading=False) == ["2026", "2"]
    path.write_text("address\n2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: is not a whole number"):
        requests.read_leaves(path, heading=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("address\n1\n\n-2\n", 4, "is not a whole number"),
        ('1,"two\nlines"\nx\n', 3, "is not a whole number"),
        ("1\n,bob\n", 2, "is not a whole number"),
        ("1\n\ufeff2\n", 2, "is not a whole number"),
        (f"1\n{ORDER}\n", 2, "is out of range"),
        (f"1\n2\n{EMPTY}\n", 3, "is the mark of an empty place"),
    ],
    ids=("negative", "after a quoted line end", "no first column", "mark inside", "order", "empty place"),
)
def test_a_wrong_entry_is_named_by_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    """Errors have the physical line number, also after quoted line breaks."""
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8", newline="")

    with pytest.raises(InputError, match=rf"list\.csv, line {line}: {reason}"):
        requests.read_leaves(path)


def test_a_column_that_csv_cannot_hold_is_named_by_its_line(tmp_path: Path) -> None:
    """A column that is too long is an error with its line."""
    path = tmp_path / "list.csv"
    path.write_text("1\n" + "x" * 200_000, encoding="utf-8")

    with pytest.raises(CommandFailed, match=r"list\.csv, line 2: field larger than field limit"):
        requests.read_leaves(path)


def test_many_membership_proofs_go_around_the_end_of_the_list() -> None:
    """Requests start at INDEX and wrap around the end of the list."""
    asked = requests.merkle({"leaves": ["1", "2", "3"], "leaf_index": 2}, 4)

    assert [request["leaf_index"] for request in asked] == [2, 0, 1, 2]


def test_a_first_index_out_of_range_stays_so() -> None:
    """A first index out of range is not wrapped."""
    first = next(requests.merkle({"leaves": ["1", "2"], "leaf_index": 5}, 3))

    with pytest.raises(InputError, match="leaf_index"):
        requests.submission("t-1", "merkle_proof", first, None)


def test_blindings_are_random_unless_given() -> None:
    """Each request has its own random blinding, unless one is given."""
    first, second = (requests.with_blinding({"value": 1}) for _ in range(2))

    assert first["blinding"] != second["blinding"]
    assert requests.with_blinding({"blinding": "7"}) == {"blinding": "7"}


def test_a_generated_blinding_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """The file has mode 0600, and an existing one is not overwritten."""
    path = tmp_path / "blinding"
    requests.write_blindings([{"blinding": 5}, {"blinding": 6}], path)

    assert path.read_text(encoding="ascii") == "5\n6\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandFailed, match="already exists"):
        requests.write_blindings([{"blinding": 7}], path)


def test_chosen_ids_are_numbered_and_others_differ() -> None:
    """With an id a repeated command yields the same task ids; without one they are random."""
    assert list(requests.task_ids("mine", 1)) == ["mine"]
    assert list(requests.task_ids("mine", 3)) == ["mine-1", "mine-2", "mine-3"]
    assert len(set(requests.task_ids(None, 3))) == 3


def test_a_submission_states_what_will_be_proved() -> None:
    """The public inputs are computed by the client."""
    made = requests.submission("t-1", "addition", {"a": "20", "b": 22}, 5)

    assert made.public_inputs == ("42",)
    assert made.max_retries == 5
    assert set(json.loads(made.inputs)) == {"a", "b"}
