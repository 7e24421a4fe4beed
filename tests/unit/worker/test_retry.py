"""The retry policy is a value, and pure."""

import ast
import inspect
from types import ModuleType

import pytest

import worker
import worker.retry
import zkp.client
import zkp.client.backoff
from worker.retry import ReportOutcome, RetryPolicy


def pause(report_outcome: ReportOutcome, failures: int, chance: float) -> float:
    seconds = RetryPolicy().delay(report_outcome, failures, chance)
    assert seconds is not None
    return seconds


def test_nothing_is_retried_once_it_is_settled() -> None:
    """A report that can never be taken is not sent again."""
    assert RetryPolicy().delay(ReportOutcome.SETTLED, 1, 0.5) is None


def test_an_unavailable_leader_is_retried_soon() -> None:
    """The first retry follows within the duration of an election, later ones within seconds."""
    assert pause(ReportOutcome.UNAVAILABLE, 1, 0.999) < 0.25
    assert 5 <= pause(ReportOutcome.UNAVAILABLE, 50, 0.0) <= 10


def test_a_refusal_is_retried_slowly() -> None:
    """Only an operator can end a quarantine: ask every few seconds at most, every minute at least."""
    assert pause(ReportOutcome.REFUSED, 1, 0.0) >= 5
    assert pause(ReportOutcome.REFUSED, 50, 0.999) <= 60


@pytest.mark.parametrize("module", [zkp.client, zkp.client.backoff, worker, worker.retry])
def test_the_policy_imports_no_io(module: ModuleType) -> None:
    """Loading it and its imports loads no clock, randomness, file or socket."""
    # pki: sets one environment variable for gRPC, and nothing else
    allowed = {"dataclasses", "enum", "typing", "zkp.client.backoff", "pki"}
    loaded = ast.parse(inspect.getsource(module)).body  # imports in functions and for the type checker are not loaded
    imported = {alias.name for node in loaded if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in loaded if isinstance(node, ast.ImportFrom)}
    assert imported <= allowed
