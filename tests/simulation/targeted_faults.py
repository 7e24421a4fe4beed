"""Faults that wait for the moment in which they hurt most: a leader with a tail, a candidate, a half-written batch.

Each is a general thing that can happen to hosts, links and disks; only its time is chosen by what the nodes do.
"""

from collections.abc import Callable

from tests.simulation.disk import SECTOR, Call
from tests.simulation.fault_context import FaultContext
from tests.simulation.node import SimNode

_PATIENCE = 2.0
"""Seconds within which the moment comes, or nothing happens."""


def _cut_off(scene: FaultContext, some: set[str]) -> None:
    """Let nothing through between these nodes and the others."""
    for one in some:
        for other in set(scene.cluster.names) - some:
            scene.cluster.network.block(one, other)
            scene.cluster.network.block(other, one)


def _unplug(scene: FaultContext, node: SimNode) -> None:
    """Break every connection of the node, which the others notice at once."""
    for other in scene.cluster.names:
        if other != node.name:
            scene.cluster.network.drop_connection(node.name, other)


def _ask_much(scene: FaultContext, node: SimNode, tasks: int) -> None:
    """So many clients at once."""
    for _ in range(tasks):
        scene.cluster.submit(node)


def _when_succeeded(scene: FaultContext, deposed: SimNode, action: Callable[[], None]) -> None:
    """Once a node leads in a later term, and at the latest when patience ends."""
    term = deposed.leading_term or 0

    def succeeded() -> bool:
        return any((node.leading_term or 0) > term for node in scene.cluster.believers())

    end = scene.cluster.time + _PATIENCE
    scene.cluster.when(lambda: succeeded() or scene.cluster.time >= end, action, 2 * _PATIENCE)


# ------------------------------------------------------------ leaders


def many_clients(scene: FaultContext) -> None:
    """Whoever leads is asked for many things at once."""
    leader = scene.cluster.leader()
    if leader is not None:
        _ask_much(scene, leader, scene.rng.randint(10, 40))


def cut_off_leader(scene: FaultContext) -> None:
    """The leader goes on writing what nobody hears; it is back soon after the others have chosen another."""
    leader = scene.cluster.leader()
    if leader is None:
        return
    if scene.rng.random() < 0.5:
        _unplug(scene, leader)  # then the others choose while it still believes in itself
    _cut_off(scene, {leader.name})
    _ask_much(scene, leader, scene.rng.randint(0, 10))
    after, dies = scene.rng.choice((0.0, 0.05, 0.2)), scene.rng.random() < 0.5

    def back() -> None:
        if dies:  # and comes back with what it wrote, but without knowing what of it was accepted
            leader.kill(power_loss=False)
            leader.start()
        scene.cluster.network.heal()

    _when_succeeded(scene, leader, lambda: scene.cluster.at(after, back))


def cut_off_candidate(scene: FaultContext) -> None:
    """The leader's connections break for a moment; whoever campaigns then is heard by nobody, and is back later."""
    leader = scene.cluster.leader()
    if leader is None:
        return
    after = scene.rng.uniform(0.3, 1.5)

    def cut() -> None:
        for node in campaigning():
            _cut_off(scene, {node.name})
            _unplug(scene, node)
        scene.cluster.at(after, scene.cluster.network.heal)

    def campaigning() -> list[SimNode]:
        return [node for node in scene.cluster.nodes.values() if node.campaigns]

    _unplug(scene, leader)
    scene.cluster.when(lambda: bool(campaigning()), cut, _PATIENCE)


def reelect_leader(scene: FaultContext) -> None:
    """A leader is cut off with one peer, deposed, and leads again, before it hears what that peer said at first."""
    leader = scene.cluster.leader()
    if leader is None:
        return
    network = scene.cluster.network
    peer = scene.rng.choice([name for name in scene.cluster.names if name != leader.name])
    network.hold(peer, leader.name)
    _cut_off(scene, {leader.name, peer})
    _ask_much(scene, leader, scene.rng.randint(20, 120))

    def back() -> None:
        network.heal()
        scene.cluster.when(_hands_over(scene, leader), lambda: None, _PATIENCE)
        scene.cluster.when(lambda: leader.leading_term is not None, release, _PATIENCE)
        scene.cluster.at(_PATIENCE, release)

    def release() -> None:
        network.release(peer, leader.name)

    _when_succeeded(scene, leader, back)


def _hands_over(scene: FaultContext, heir: SimNode) -> Callable[[], bool]:
    """Have whoever leads hand over to `heir`, as soon as it can."""

    def tried() -> bool:
        leader = scene.cluster.leader()
        if leader is None or leader is heir or leader.raft is None or leader.paused:
            return False
        if not leader.raft.status().peers[heir.name].connected:
            return False
        if not leader.raft.transferring:
            leader.raft.transfer_leadership(heir.name)
        return True

    return tried


def hold_messages(scene: FaultContext) -> None:
    """One direction of a connection stalls for longer than an election takes; nothing is lost."""
    one, other = scene.pair()
    scene.cluster.network.hold(one, other)
    scene.later(0.1, 2.5, lambda: scene.cluster.network.release(one, other))


# ------------------------------------------------------------ disks


def die_in_a_write(scene: FaultContext) -> None:
    """The power fails while a batch of many sectors is on its way to the disk, and soon after the start again."""
    node = scene.cluster.leader() if scene.rng.random() < 0.5 else scene.node()
    if node is None or not node.alive:
        return
    node.disk.die_at = _before_the_sync_of_many_sectors()
    again = scene.rng.randint(1, 4)

    def dead() -> bool:
        return not node.alive

    def start_again() -> None:
        node.kill(power_loss=True)
        node.start()
        node.disk.die_in = 4 * again  # calls: the process dies after a few batches
        scene.cluster.when(dead, node.start, float("inf"))

    _ask_much(scene, node, 20)
    scene.cluster.when(dead, start_again, float("inf"))


def _before_the_sync_of_many_sectors() -> Callable[[Call], bool]:
    written = False

    def now(call: Call) -> bool:
        nonlocal written
        if call.kind == "write" and len(call.data) > 2 * SECTOR and any(call.data):
            written = True
        return written and call.kind == "sync"

    return now


def die_storing_a_snapshot(scene: FaultContext) -> None:
    """The process dies at some call around the storing of a snapshot; with it the power fails, or does not."""
    node = scene.node()
    if not node.alive:
        return
    power_loss = scene.rng.random() < 0.5
    kinds = scene.rng.choice((("replace",), ("replaced",), ("remove",)))

    def around(call: Call) -> bool:
        return call.kind in kinds and call.name.endswith((".snapshot", ".segment"))

    def start_again() -> None:
        node.kill(power_loss=power_loss)
        node.start()

    node.disk.die_at = around
    scene.cluster.when(lambda: not node.alive, start_again, float("inf"))


TARGETED_FAULTS: tuple[Callable[[FaultContext], None], ...] = (
    many_clients,
    cut_off_leader,
    cut_off_candidate,
    reelect_leader,
    hold_messages,
    die_in_a_write,
    die_storing_a_snapshot,
)
