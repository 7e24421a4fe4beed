"""Mapping of the coordinators' errors to problems."""

import logging

import pytest

from gateway import problems
from gateway.network import to_problem
from zkp.client import errors
from zkp.daemon.problems import ProblemKind


@pytest.mark.parametrize(
    ("error", "kind", "retry_after"),
    [
        (errors.NotFound("no task t"), problems.NO_SUCH_TASK, None),
        (errors.AlreadyExists("other submission"), problems.KEY_REUSED, None),
        (errors.Conflict("task t is completed"), problems.TASK_ENDED, None),
        (errors.Exhausted("backlog", 7.0), problems.NETWORK_UNAVAILABLE, "7"),
        (errors.NoLeader("nobody at 10.0.0.1:9090", {}), problems.NETWORK_UNAVAILABLE, "2"),
        (errors.Untrusted("bad handshake at 10.0.0.1:9090", {}), problems.NETWORK_UNAVAILABLE, "2"),
        (errors.Refused("role gateway at 10.0.0.1:9090"), problems.NETWORK_FAULT, None),
        (errors.ServerFault("INTERNAL at 10.0.0.1:9090"), problems.NETWORK_FAULT, None),
    ],
)
def test_each_answer_has_its_problem(error: errors.ClientError, kind: ProblemKind, retry_after: str | None) -> None:
    """Retryable problems have Retry-After; addresses are not disclosed."""
    problem = to_problem(error)
    assert problem.kind is kind
    assert problem.headers.get("Retry-After") == retry_after
    assert "10.0.0.1" not in problem.detail


@pytest.mark.parametrize(
    ("text", "given", "field", "detail"),
    [
        ("must be at most 10", "max_retries", "max_retries", "max_retries: must be at most 10"),
        ("max_retries: is too large", "max_retries", "max_retries", "max_retries: is too large"),
        ("is none of ours", "page_token", "page_token", "page_token: is none of ours"),
        ("cannot be taken", "", None, "cannot be taken"),
    ],
)
def test_a_field_that_the_coordinators_refuse_is_named(text: str, given: str, field: str | None, detail: str) -> None:
    """By the caller's name for it."""
    problem = to_problem(errors.InvalidSubmission(text, given))
    assert (problem.kind, problem.field, problem.detail) == (problems.INVALID_FIELD, field, detail)


def test_details_for_operators_are_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Addresses and reasons are there."""
    with caplog.at_level(logging.WARNING):
        to_problem(errors.NoLeader("no leader at 10.0.0.1:9090", {}))
        to_problem(errors.Refused("the role gateway may not"))
    assert "10.0.0.1:9090" in caplog.text
    assert "the role gateway may not" in caplog.text
