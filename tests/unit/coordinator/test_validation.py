"""What a submission must look like."""

from dataclasses import replace

import pytest

from coordinator.errors import InvalidRequest
from coordinator.services.validation import Submission, check
from coordinator.state.commands import Submit
from tests.unit.coordinator.fakes import submission


def refused_field(bad: Submission) -> str:
    with pytest.raises(InvalidRequest) as refused:
        check(bad, "client/alice", 3)
    return refused.value.field


def test_a_good_submission_becomes_its_command() -> None:
    """Nothing is lost or changed on the way."""
    good = submission("a.B_c-9", max_retries=0)
    assert check(good, "client/alice", 3) == Submit(
        "a.B_c-9", "client/alice", "addition", good.inputs, good.public_inputs, 0
    )


@pytest.mark.parametrize("task_id", ["", "a b", "a/b", "é", "a\n", "x" * 65, "a\0"])
def test_task_ids_are_short_and_plain(task_id: str) -> None:
    """They travel in addresses, logs and file names."""
    assert refused_field(replace(submission("t"), task_id=task_id)) == "task_id"


def test_each_wrong_part_is_named() -> None:
    """A refusal says which field to mend."""
    good = submission("t")
    assert refused_field(replace(good, circuit="sudoku")) == "circuit"
    assert refused_field(replace(good, inputs=b"x" * 40_961)) == "inputs"
    assert refused_field(replace(good, inputs=b"{")).startswith("inputs")
    assert refused_field(replace(good, public_inputs=())) == "public_inputs"
    assert refused_field(replace(good, public_inputs=("-1",))) == "public_inputs[0]"
    assert refused_field(replace(good, public_inputs=("1",) * 65)) == "public_inputs"
    assert refused_field(replace(good, max_retries=-1)) == "max_retries"


def test_refusals_do_not_repeat_private_inputs() -> None:
    """Neither errors nor reprs contain private inputs."""
    secret = "31337"
    bad = replace(submission("t"), inputs=b'{"a": "%s", "b": "x"}' % secret.encode())
    with pytest.raises(InvalidRequest) as refused:
        check(bad, "client/alice", 3)
    assert secret not in str(refused.value)
    assert secret not in repr(bad)
    good = submission("t", a=int(secret), b=1)
    assert secret not in repr(check(good, "client/alice", 3)).replace(str(int(secret) + 1), "")
