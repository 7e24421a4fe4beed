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


def pause(trouble: ReportOutcome, failures: int, chance: float) -> float:
    seconds = RetryPolicy().delay(trouble, failures, chance)
    assert seconds is not None
    return seconds


def test_nothing_is_retried_once_it_is_settled() -> None:
    """A report that can never be taken is not sent again."""
    assert RetryPolicy().delay(ReportOutcome.SETTLED, 1, 0.5) is None


def test_an_absent_leader_is_asked_again_soon() -> None:
    """The first retry comes within an election's time, a later one within seconds."""
    assert pause(ReportOutcome.AWAY, 1, 0.999) < 0.25
    assert 5 <= pause(ReportOutcome.AWAY, 50, 0.0) <= 10


def test_a_refusal_is_not_hurried() -> None:
    """Only an operator can end a quarantine: ask every few seconds at most, every minute at least."""
    assert pause(ReportOutcome.REFUSED, 1, 0.0) >= 5
    assert pause(ReportOutcome.REFUSED, 50, 0.999) <= 60


@pytest.mark.parametrize("module", [zkp.client, zkp.client.backoff, worker, worker.retry])
def test_the_policy_imports_no_io(module: ModuleType) -> None:
    """Neither it nor what it imports knows a clock, randomness, a file or a socket."""
    allowed = {"dataclasses", "enum", "zkp.client.backoff", "pki"}  # pki: sets one variable for gRPC, and no more
    tree = ast.parse(inspect.getsource(module))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= allowed
