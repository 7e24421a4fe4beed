"""Tasks as callers read them."""

from gateway import tasks_json
from tests.unit.gateway.sample_tasks import COMPLETED, FAILED, PENDING
from zkp.client.model import Accepted


def test_what_has_not_happened_is_null() -> None:
    """Every member is always there."""
    shown = tasks_json.detail(PENDING)
    assert shown["state"] == "pending"
    unknown = ("worker_id", "verifying_key_sha256", "error", "proof", "assigned_at", "started_at", "finished_at")
    assert [shown[name] for name in unknown] == [None] * len(unknown)
    assert tasks_json.detail(COMPLETED).keys() == shown.keys()


def test_times_are_in_utc_with_milliseconds() -> None:
    """RFC 3339, as programs everywhere read it."""
    assert tasks_json.detail(PENDING)["created_at"] == "2026-03-01T12:00:00.250Z"


def test_a_failure_is_explained() -> None:
    """Code for programs, message for people."""
    assert tasks_json.detail(FAILED)["error"] == {"code": "unsatisfied_inputs", "message": "final"}


def test_lists_leave_out_the_proof() -> None:
    """A page of a thousand tasks stays small."""
    assert set(tasks_json.detail(COMPLETED)) - set(tasks_json.summary(COMPLETED)) == {"proof"}


def test_a_blinding_is_shown_only_if_it_was_generated() -> None:
    """It is the caller's secret: nothing else ever shows it."""
    answer = Accepted(PENDING, duplicate=True)
    assert "blinding" not in tasks_json.accepted(answer, generated_blinding=None)
    shown = tasks_json.accepted(answer, generated_blinding="7")
    assert (shown["blinding"], shown["duplicate"]) == ("7", True)
