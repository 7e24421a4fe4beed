"""Whatever is thrown at the state machine, in whatever order, its promises hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from coordinator.state.codec import decode_group, decode_state, encode_command, encode_group
from coordinator.state.commands import Cancel, Command, RegisterCircuit, RegisterWorker, Submit
from coordinator.state.machine import State
from tests.unit.state.histories import COMMANDS, PRIVATE, Witness, bytes_of, fitting, repeatable


class AnyHistory(RuleBasedStateMachine):
    """Commands that fit and commands that do not; a twin is fed the same through the log's bytes.

    Defects that could not survive this: completion accepted any bytes from anyone, late
    failures reopened completed tasks, retries ignored their limit, snapshots held only counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.twin = State()
        self.witness = Witness()
        self.now_ms = 1_000
        self.term = 1

    @initialize(
        capacities=st.lists(st.integers(0, 3), min_size=3, max_size=3),
        retries=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    )
    def something_to_do(self, capacities: list[int], retries: list[int]) -> None:
        both = frozenset({"addition", "range_proof"})
        self.carry_out(RegisterCircuit("addition", "key-1"))
        for number, capacity in enumerate(capacities, start=1):
            self.carry_out(RegisterWorker(f"w{number}", "first", capacity, both, (), "1"))
        for number, limit in enumerate(retries, start=1):
            self.carry_out(Submit(f"t{number}", "client", "addition", PRIVATE + b"a", (), limit))

    @rule(command=COMMANDS)
    def anything(self, command: Command) -> None:
        self.carry_out(command)

    @rule(data=st.data())
    def something_that_fits(self, data: st.DataObject) -> None:
        self.carry_out(data.draw(fitting(self.state)))

    @rule(milliseconds=st.integers(-500, 2_000))
    def time_passes(self, milliseconds: int) -> None:
        """Backwards too: the next leader's clock may be late."""
        self.now_ms = max(self.now_ms + milliseconds, 0)

    @rule()
    def another_leader(self) -> None:
        self.term += 1

    @rule()
    def start_from_a_snapshot(self) -> None:
        """The twin dies and starts again; from then on it must go on as if it had lived."""
        self.twin = decode_state(bytes_of(self.twin))

    @rule()
    def everything_ends(self) -> None:
        """Then nothing private is left in any byte, which is checked after each command."""
        for task_id in list(self.state.tasks):
            self.carry_out(Cancel(task_id))

    def carry_out(self, command: Command) -> None:
        before, task = bytes_of(self.state), self.state.tasks.get(getattr(command, "task_id", ""))
        outcome = self.state.apply(command, self.now_ms, self.term)
        self.witness.check(self.state, command, before, task, outcome)
        group = decode_group(encode_group(self.now_ms, self.term, [encode_command(command)]))
        assert group.commands == (command,)
        assert self.twin.apply(group.commands[0], group.now_ms, group.term) == outcome
        assert bytes_of(self.twin) == bytes_of(self.state)


def test_any_history() -> None:
    """Any sequence of commands: nothing raises, and every promise of `Witness` holds after each."""
    run_state_machine_as_test(AnyHistory, settings=settings(repeatable, max_examples=60, stateful_step_count=40))
