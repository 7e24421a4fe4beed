"""What goes wrong in a simulated cluster: one function a fault, which draws from a source of its own.

So a fault that is left out changes nothing in what the others do, and a schedule can be shrunk.
"""

from collections.abc import Callable

from tests.simulation.fault_context import FaultContext
from tests.simulation.node import SLOWEST_APPLY
from tests.simulation.targeted_faults import TARGETED_FAULTS

# ------------------------------------------------------------ processes and machines


def kill_process(scene: FaultContext) -> None:
    node = scene.node()
    node.kill(power_loss=False)
    scene.cluster.at(scene.downtime(), node.start)


def lose_power(scene: FaultContext) -> None:
    node = scene.node()
    node.kill(power_loss=True)
    scene.cluster.at(scene.downtime(), node.start)


def lose_all_power(scene: FaultContext) -> None:
    for node in scene.cluster.nodes.values():
        node.kill(power_loss=True)
        scene.cluster.at(scene.downtime(), node.start)


def die_at_io_call(scene: FaultContext) -> None:
    """The process dies at one of its next I/O calls; with it the power fails, or does not."""
    node = scene.node()
    power_loss = scene.rng.random() < 0.5
    if not node.alive:
        return
    node.disk.die_in = scene.rng.randint(1, 30)

    def after() -> None:
        node.kill(power_loss=power_loss)
        node.start()

    scene.later(0.05, 0.5, after)


def pause(scene: FaultContext) -> None:
    node = scene.node()
    if node.alive:
        node.pause()
        scene.later(0.05, 5.0, node.resume)


def slow_processor(scene: FaultContext) -> None:
    """Every node needs a while for each entry, and all start again with what their logs hold."""
    for node in scene.cluster.nodes.values():
        node.apply_seconds = scene.rng.uniform(0.0, SLOWEST_APPLY)
        node.kill(power_loss=False)
        scene.cluster.at(scene.downtime(), node.start)

    def fast() -> None:
        for node in scene.cluster.nodes.values():
            node.apply_seconds = 0.0

    scene.later(1.0, 4.0, fast)


def jump_clock(scene: FaultContext) -> None:
    """Wall time only, forwards or back; it changes nothing but stamps."""
    scene.node().clock_offset = scene.rng.choice((-86_400.0, -3.0, 0.0, 3.0, 86_400.0))


# ------------------------------------------------------------ disks


def wipe_disk(scene: FaultContext) -> None:
    """A node comes back with an empty disk; never a second one before the first has caught up."""
    nodes = scene.cluster.nodes.values()
    if not all(b'"voter"' in (node.disk.durable("membership") or b"") for node in nodes):
        return
    node = scene.node()
    node.kill(power_loss=True)
    node.wipe()
    scene.cluster.at(scene.downtime(), node.start)


def fill_disk(scene: FaultContext) -> None:
    """The node ends itself at its next write; with space again it is started."""
    node = scene.node()
    node.disk.full = True

    def after() -> None:
        node.kill(power_loss=False)
        node.disk.full = False
        node.start()

    scene.later(0.05, 1.0, after)


def slow_disk(scene: FaultContext) -> None:
    """Each sync takes a tenth of a second at most."""
    node = scene.node()
    node.disk.slow = scene.rng.uniform(0.005, 0.1)

    def fast() -> None:
        node.disk.slow = 0.0

    scene.later(0.2, 2.0, fast)


def slow_snapshots(scene: FaultContext) -> None:
    """Storing a snapshot takes seconds, and a node falls so far behind that it needs one."""
    for node in scene.cluster.nodes.values():
        node.disk.slow_snapshots = scene.rng.uniform(0.1, 2.0)
    node = scene.node()
    node.kill(power_loss=False)
    scene.cluster.at(1.0, node.start)

    def fast() -> None:
        for node in scene.cluster.nodes.values():
            node.disk.slow_snapshots = 0.0

    scene.later(1.5, 4.0, fast)


# ------------------------------------------------------------ network


def drop_connection(scene: FaultContext) -> None:
    """What was on its way is lost; what was not acknowledged is sent again."""
    scene.cluster.network.drop_connection(*scene.pair())


def isolate(scene: FaultContext) -> None:
    name = scene.node().name
    for other in scene.cluster.names:
        if other != name:
            scene.cluster.network.block(name, other)
            scene.cluster.network.block(other, name)
    scene.later(0.2, 4.0, scene.cluster.network.heal)


def cut_one_way(scene: FaultContext) -> None:
    scene.cluster.network.block(*scene.pair())
    scene.later(0.2, 4.0, scene.cluster.network.heal)


def cut_one_link(scene: FaultContext) -> None:
    """A bridging partition: two nodes lose each other, both still see the third."""
    one, other = scene.pair()
    scene.cluster.network.block(one, other)
    scene.cluster.network.block(other, one)
    scene.later(0.2, 4.0, scene.cluster.network.heal)


def slow_network(scene: FaultContext) -> None:
    """Connections overtake one another by up to a tenth of a second."""
    scene.cluster.network.max_delay = 0.1

    def fast() -> None:
        scene.cluster.network.max_delay = 0.002

    scene.later(0.2, 2.0, fast)


# ------------------------------------------------------------ what operators and others do


def transfer(scene: FaultContext) -> None:
    leader = scene.cluster.leader()
    if leader is not None and leader.raft is not None and not leader.paused:
        connected = [peer for peer, status in leader.raft.status().peers.items() if status.connected]
        if connected:
            leader.raft.transfer_leadership(scene.rng.choice(connected))


def postgres_away(scene: FaultContext) -> None:
    scene.record.away = True

    def back() -> None:
        scene.record.away = False

    scene.later(0.1, 4.0, back)


def kill_worker(scene: FaultContext) -> None:
    worker = scene.rng.choice(list(scene.workforce.workers.values()))
    scene.workforce.kill(worker)
    scene.later(0.0, 3.0, lambda: scene.workforce.restart(worker))


def worker_lies(scene: FaultContext) -> None:
    worker = scene.rng.choice(list(scene.workforce.workers.values()))
    worker.lies = not worker.lies


FAULTS: dict[str, Callable[[FaultContext], None]] = {
    fault.__name__: fault
    for fault in (
        kill_process,
        lose_power,
        lose_all_power,
        die_at_io_call,
        pause,
        slow_processor,
        jump_clock,
        wipe_disk,
        fill_disk,
        slow_disk,
        slow_snapshots,
        drop_connection,
        isolate,
        cut_one_way,
        cut_one_link,
        slow_network,
        transfer,
        postgres_away,
        kill_worker,
        worker_lies,
        *TARGETED_FAULTS,
    )
}
