"""What goes wrong in a simulated cluster, chosen by its random source."""

from collections.abc import Callable

from tests.simulation.cluster import Cluster, SimNode


def _pick(cluster: Cluster) -> SimNode:
    return cluster.nodes[cluster.rng.choice(cluster.names)]


def _downtime(cluster: Cluster) -> float:
    """Seconds until a dead process starts again: often at once, so that it meets what it has just forgotten."""
    return cluster.rng.choice((0.0, 0.01, 0.1, cluster.rng.uniform(0.0, 2.0)))


def kill_process(cluster: Cluster) -> None:
    node = _pick(cluster)
    node.kill(power_loss=False)
    cluster.at(_downtime(cluster), node.start)


def lose_power(cluster: Cluster) -> None:
    node = _pick(cluster)
    node.kill(power_loss=True)
    cluster.at(_downtime(cluster), node.start)


def wipe_disk(cluster: Cluster) -> None:
    """A node comes back with an empty disk; never a second one before the first has caught up."""
    if not all(b'"voter"' in (node.disk.durable("membership") or b"") for node in cluster.nodes.values()):
        return
    node = _pick(cluster)
    node.kill(power_loss=True)
    node.disk.wipe()
    cluster.at(_downtime(cluster), node.start)


def lose_all_power(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.kill(power_loss=True)
        cluster.at(_downtime(cluster), node.start)


def die_at_io_call(cluster: Cluster) -> None:
    """The process dies at one of its next I/O calls; with it the power fails, or does not."""
    node = _pick(cluster)
    if not node.alive:
        return
    node.disk.die_in = cluster.rng.randint(1, 30)
    power_loss = cluster.rng.random() < 0.5

    def after() -> None:
        node.kill(power_loss=power_loss)
        node.start()

    cluster.at(cluster.rng.uniform(0.05, 0.5), after)


def pause(cluster: Cluster) -> None:
    node = _pick(cluster)
    if node.alive:
        node.paused = True
        cluster.at(cluster.rng.uniform(0.05, 5.0), node.resume)


def drop_connection(cluster: Cluster) -> None:
    one, other = cluster.rng.sample(cluster.names, 2)
    cluster.network.drop_connection(one, other)


def isolate(cluster: Cluster) -> None:
    name = _pick(cluster).name
    for other in cluster.names:
        if other != name:
            cluster.network.block(name, other)
            cluster.network.block(other, name)
    cluster.at(cluster.rng.uniform(0.2, 4.0), cluster.network.heal)


def cut_one_way(cluster: Cluster) -> None:
    one, other = cluster.rng.sample(cluster.names, 2)
    cluster.network.block(one, other)
    cluster.at(cluster.rng.uniform(0.2, 4.0), cluster.network.heal)


def cut_one_link(cluster: Cluster) -> None:
    """A bridging partition: two nodes lose each other, both still see the third."""
    one, other = cluster.rng.sample(cluster.names, 2)
    cluster.network.block(one, other)
    cluster.network.block(other, one)
    cluster.at(cluster.rng.uniform(0.2, 4.0), cluster.network.heal)


def slow_network(cluster: Cluster) -> None:
    cluster.network.max_delay = 0.1

    def fast() -> None:
        cluster.network.max_delay = 0.002

    cluster.at(cluster.rng.uniform(0.2, 2.0), fast)


def transfer(cluster: Cluster) -> None:
    leader = cluster.leader()
    if leader is not None and leader.raft is not None and leader.raft.status().peers:
        connected = [peer for peer, status in leader.raft.status().peers.items() if status.connected]
        if connected:
            leader.raft.transfer_leadership(cluster.rng.choice(connected))


FAULTS: tuple[Callable[[Cluster], None], ...] = (
    kill_process,
    lose_power,
    wipe_disk,
    lose_all_power,
    die_at_io_call,
    pause,
    drop_connection,
    isolate,
    cut_one_way,
    cut_one_link,
    slow_network,
    transfer,
)


def torment(cluster: Cluster, faults: int) -> None:
    """Submit tasks all the time while `faults` things go wrong, some at once; then check the end."""
    cluster.run_until(lambda: cluster.leader() is not None, 10.0)
    for _ in range(faults):
        cluster.rng.choice(FAULTS)(cluster)
        cluster.run(cluster.rng.choice((0.0, 0.01, 0.05, 0.3, 1.0)))
    cluster.check_end()
