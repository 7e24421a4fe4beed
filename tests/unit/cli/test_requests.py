"""From options and files to what is submitted."""

import io
import json
from pathlib import Path

import pytest

from client.cli import requests
from client.cli.errors import CommandFailed, UsageProblem
from proofs import InputError


def test_private_values_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--inputs -` keeps them out of the arguments, which every user of the machine can read."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"value": 42}'))

    assert requests.read_inputs(Path("-")) == {"value": 42}


def test_no_inputs_file_is_no_fields() -> None:
    """Options alone are enough."""
    assert requests.read_inputs(None) == {}


@pytest.mark.parametrize(("text", "reason"), [("{", "is not JSON"), ("[1]", "is no JSON object")])
def test_a_broken_inputs_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    """The line says which file and how a good one looks, and repeats nothing of it."""
    path = tmp_path / "inputs.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(CommandFailed, match=rf"inputs\.json {reason}: write"):
        requests.read_inputs(path)


def test_a_missing_inputs_file_is_named(tmp_path: Path) -> None:
    """The reason is the system's own."""
    with pytest.raises(CommandFailed, match=r"none\.json cannot be read: No such file"):
        requests.read_inputs(tmp_path / "none.json")


def test_options_and_inputs_complete_each_other() -> None:
    """Public bounds as options, the private number from the file."""
    merged = requests.merge({"value": 42}, {"min": "18", "max": None})

    assert merged == {"value": 42, "min": "18"}


def test_a_field_given_twice_is_refused() -> None:
    """Which of two values was meant is not guessed."""
    with pytest.raises(UsageProblem, match="value is given both as an option and in --inputs"):
        requests.merge({"value": 42}, {"value": "43"})


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("address\n0x1f\n0x2e\n", ["0x1f", "0x2e"]),
        ("1\n2\n\n3\n", ["1", "2", "3"]),
        ("7,seven\r\n8,eight\r\n", ["7", "8"]),
        ("heading\n", []),
        ("", []),
    ],
)
def test_lists_are_read_with_and_without_heading(tmp_path: Path, text: str, entries: list[str]) -> None:
    """One entry a line, or a CSV's first column; empty lines are no entries."""
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8", newline="")

    assert requests.read_leaves(path) == entries


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    """A binary file is not taken for a list."""
    path = tmp_path / "list.bin"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(CommandFailed, match=r"list\.bin is no text file"):
        requests.read_leaves(path)


def test_many_membership_proofs_go_around_the_end_of_the_list() -> None:
    """INDEX, INDEX + 1, … and on from the start."""
    asked = requests.merkle({"leaves": ["1", "2", "3"], "leaf_index": 2}, 4)

    assert [request["leaf_index"] for request in asked] == [2, 0, 1, 2]


def test_a_first_index_out_of_range_stays_so() -> None:
    """Going around the end does not turn a mistake into another entry."""
    first = next(requests.merkle({"leaves": ["1", "2"], "leaf_index": 5}, 3))

    with pytest.raises(InputError, match="leaf_index"):
        requests.submission("t-1", "merkle_proof", first, None)


def test_blindings_are_drawn_anew_and_kept_when_given() -> None:
    """Two commitments to the same number do not look alike, unless the caller chose so."""
    first, second = (requests.with_blinding({"value": 1}) for _ in range(2))

    assert first["blinding"] != second["blinding"]
    assert requests.with_blinding({"blinding": "7"}) == {"blinding": "7"}


def test_a_drawn_blinding_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """The file is 0600, and one that is there is never overwritten."""
    path = tmp_path / "blinding"
    requests.keep_blindings([{"blinding": 5}, {"blinding": 6}], path)

    assert path.read_text(encoding="ascii") == "5\n6\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandFailed, match="is there already"):
        requests.keep_blindings([{"blinding": 7}], path)


def test_chosen_ids_are_numbered_and_others_differ() -> None:
    """The same command sent again names the same tasks; without an id every task is a new one."""
    assert list(requests.task_ids("mine", 1)) == ["mine"]
    assert list(requests.task_ids("mine", 3)) == ["mine-1", "mine-2", "mine-3"]
    assert len(set(requests.task_ids(None, 3))) == 3


def test_a_submission_states_what_will_be_proved() -> None:
    """The public inputs are worked out before anything is sent."""
    made = requests.submission("t-1", "addition", {"a": "20", "b": 22}, 5)

    assert made.public_inputs == ("42",)
    assert made.max_retries == 5
    assert set(json.loads(made.inputs)) == {"a", "b"}
