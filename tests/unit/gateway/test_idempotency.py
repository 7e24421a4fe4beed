"""Idempotency keys: the same caller and key name the same task, at every gateway."""

import re

import pytest

from gateway.idempotency import new_task_id, read_key
from gateway.problems import INVALID_HEADER, ApiProblem
from zkp.protocol.limits import TASK_ID_PATTERN

ALICE, BOB = "spiffe://zkp.local/client/alice", "api-key:alice"


def test_the_id_follows_from_caller_and_key() -> None:
    """A gateway needs no memory, and an upgrade must not change what a key means: the value is fixed here."""
    assert new_task_id(ALICE, "order-17") == "b1761ee866f4fda1ce07c7475aa9e3b4"


def test_other_callers_and_other_keys_have_other_ids() -> None:
    """The same key of another caller names a different task."""
    ids = {new_task_id(caller, key) for caller in (ALICE, BOB) for key in ("a", "b")}
    assert len(ids) == 4


def test_the_boundary_between_caller_and_key_matters() -> None:
    """What one caller ends with cannot stand in for what another's key begins with."""
    assert new_task_id("api-key:al", "ice") != new_task_id("api-key:alice", "")


def test_without_a_key_ids_are_random() -> None:
    """128 bits, in a form that coordinators accept."""
    first, second = new_task_id(ALICE, None), new_task_id(ALICE, None)
    assert first != second
    assert re.fullmatch(TASK_ID_PATTERN, first)
    assert len(first) == 32


def test_a_key_is_read() -> None:
    """None without the header; otherwise as it came."""
    assert read_key([]) is None
    assert read_key(["8e03978e-40d5-43dd-bc93-6894a57f9324"]) == "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.mark.parametrize("values", [[""], ["a b"], ["é"], ["a\n"], ["x" * 256], ["a", "a"]])
def test_an_unusable_key_is_refused(values: list[str]) -> None:
    """A key that two programs could read differently is no key."""
    with pytest.raises(ApiProblem) as caught:
        read_key(values)
    assert (caught.value.kind, caught.value.field) == (INVALID_HEADER, "Idempotency-Key")
