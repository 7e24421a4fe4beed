"""Output of tasks and proof files."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from zkp.cli import task_output
from zkp.cli.errors import CommandFailed
from zkp.client.model import Task, TaskError, TaskState

CREATED = datetime(2026, 11, 23, 14, 7, 24, 123456, tzinfo=UTC)
PENDING = Task(
    id="t-1",
    circuit="range_proof",
    state=TaskState.PENDING,
    attempt=0,
    retries=0,
    max_retries=3,
    worker_id=None,
    public_inputs=("5", "18", "120"),
    proof=None,
    verifying_key_sha256=None,
    error=None,
    created_at=CREATED,
    assigned_at=None,
    started_at=None,
    finished_at=None,
    revision=1,
)
COMPLETED = replace(
    PENDING,
    state=TaskState.COMPLETED,
    attempt=2,
    retries=1,
    worker_id="worker-1",
    proof=bytes(256),
    verifying_key_sha256="ab" * 32,
    finished_at=CREATED + timedelta(milliseconds=1500),
)
FAILED = replace(PENDING, state=TaskState.FAILED, attempt=1, error=TaskError("timeout", "took too long"))


def test_a_task_in_one_line_says_where_it_is_and_why() -> None:
    """A line has state, attempt, worker and error, if they are set."""
    assert task_output.change(PENDING) == "t-1 pending"
    assert task_output.change(COMPLETED) == "t-1 completed attempt 2 by worker-1"
    assert task_output.change(FAILED) == "t-1 failed attempt 1: timeout: took too long"


def test_json_carries_everything_and_a_proof_only_when_there_is_one() -> None:
    """Times are RFC 3339 in UTC; unset ones are null."""
    pending, completed = task_output.to_json(PENDING), task_output.to_json(COMPLETED)

    assert pending["created_at"] == "2026-11-23T14:07:24.123Z"
    assert (pending["finished_at"], pending["proof"]) == (None, None)
    assert isinstance(completed["proof"], dict)
    assert json.dumps(completed)


def test_public_inputs_are_shown_by_name() -> None:
    """Public inputs are shown with their names."""
    shown = task_output.to_fields(PENDING)

    assert (shown["commitment"], shown["min"], shown["max"]) == ("5", "18", "120")


def test_a_proof_file_is_what_a_verifier_reads(tmp_path: Path) -> None:
    """A proof document has circuit, proof, public inputs, key and task id only."""
    path = tmp_path / "new" / "proof.json"
    task_output.write_proof(COMPLETED, path)

    written = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(written) == ["circuit", "proof", "public_inputs", "task_id", "verifying_key_sha256"]
    assert written["task_id"] == "t-1"


def test_a_task_without_a_proof_has_no_proof_file(tmp_path: Path) -> None:
    """The error has the task's state."""
    with pytest.raises(CommandFailed, match="task t-1: has no proof, since it is pending"):
        task_output.write_proof(PENDING, tmp_path / "proof.json")


def test_only_completed_tasks_are_written(tmp_path: Path) -> None:
    """Only completed tasks have a proof file."""
    written = task_output.write_proofs([COMPLETED, FAILED], tmp_path)

    assert written == [tmp_path / "t-1.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["t-1.json"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A proof file that cannot be written is an error."""
    with pytest.raises(CommandFailed, match="cannot be written"):
        task_output.write_proof(COMPLETED, tmp_path)
