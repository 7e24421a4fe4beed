"""What runs while a node leads."""

import asyncio

import pytest

from coordinator.leader import leadership as module
from coordinator.leader.leadership import Leadership
from coordinator.raft import NotLeader


class Life:
    """Notes in which order things begin and end."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.slow_end = asyncio.Event()

    def leadership(self, *, slow: bool = False, failures: int = 0) -> Leadership:
        left = [RuntimeError("a fault")] * failures

        async def task(term: int) -> None:
            self.notes.append(f"task {term}")
            if left:
                raise left.pop()
            try:
                await asyncio.Event().wait()
            finally:
                if slow:
                    await self.slow_end.wait()
                self.notes.append(f"task {term} over")

        async def prepare(term: int) -> None:
            self.notes.append(f"prepare {term}")

        return Leadership(
            begin=lambda: self.notes.append("begin"),
            end=lambda: self.notes.append("end"),
            prepare=prepare,
            tasks={"task": task},
        )


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_soft_state_begins_and_ends_in_the_same_step_as_leadership() -> None:
    """No event can come between."""
    life = Life()
    leadership = life.leadership()
    leadership.changed(3)
    assert life.notes == ["begin"]
    await turns()
    assert life.notes == ["begin", "prepare 3", "task 3"]
    assert leadership.ready.is_set()
    leadership.changed(None)
    assert life.notes[-1] == "end"
    assert not leadership.ready.is_set()
    await turns()
    assert life.notes[-1] == "task 3 over"


async def test_a_new_terms_duties_wait_for_the_end_of_the_old_ones() -> None:
    """Two schedulers of one node would work against each other."""
    life = Life()
    leadership = life.leadership(slow=True)
    leadership.changed(1)
    await turns()
    leadership.changed(None)
    leadership.changed(2)
    leadership.changed(None)
    leadership.changed(3)
    await turns()
    assert "task 3" not in life.notes
    life.slow_end.set()
    await turns()
    assert life.notes[-3:] == ["task 1 over", "prepare 3", "task 3"]
    assert "task 2" not in life.notes
    await leadership.stop()


async def test_a_duty_that_fails_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its trace, and the others do not notice."""
    monkeypatch.setattr(module, "_FAILURE_DELAY_S", 0)
    life = Life()
    leadership = life.leadership(failures=2)
    leadership.changed(1)
    await turns()
    assert life.notes.count("task 1") == 3
    assert "task failed and starts again" in caplog.text
    await leadership.stop()


async def test_a_preparation_that_is_refused_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is retried until it succeeds or leadership ends."""
    monkeypatch.setattr(module, "_RETRY_DELAY_S", 0)
    refusals = [NotLeader(None), NotLeader(None)]

    async def prepare(_: int) -> None:
        if refusals:
            raise refusals.pop()

    leadership = Leadership(begin=lambda: None, end=lambda: None, prepare=prepare, tasks={})
    leadership.changed(1)
    await turns()
    assert leadership.ready.is_set()
    await leadership.stop()


async def test_being_told_twice_that_it_follows_is_nothing_new() -> None:
    """Stop, after deposition, has nothing left to do."""
    life = Life()
    leadership = life.leadership()
    leadership.changed(None)
    await leadership.stop()
    assert life.notes == []
