"""Raft metrics: gauges read at each scrape, and two histograms of the commit path.

A node reports its own values only; values of peers are the leader's, except for the links.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.raft import RaftStatus, SnapshotFile
from coordinator.replication.replicator import Replicator

_ROLES = ("leader", "follower", "candidate", "waiting")
_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Timing(Collector):
    """A histogram for the commit path, which buffers observations and sorts them into buckets at each scrape.

    Sorted one by one, in the middle of commits, each would take many times as long as in a row: code and counters
    have left the processor's caches in between. Observed and read in one thread.
    """

    _KEPT = 1_000

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(name, documentation, buckets=_FAST, registry=None)
        self._observed: deque[float] = deque()
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Record one duration."""
        self._observed.append(seconds)
        if len(self._observed) >= self._KEPT:
            self._sort()

    def describe(self) -> Iterable[Metric]:
        """Its name, for the registry."""
        return self._histogram.describe()

    def collect(self) -> Iterable[Metric]:
        """The histogram, with everything observed until now."""
        self._sort()
        return self._histogram.collect()

    def _sort(self) -> None:
        while self._observed:
            self._histogram.observe(self._observed.popleft())


class RaftTimings:
    """The histograms of the commit path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.append = Timing(
            "zkp_raft_append_seconds",
            "From a proposal on the leader until a quorum had it on disk and it was applied. "
            "Slow while fsync is fast: look at the peers' round trips.",
            registry,
        )
        self.fsync = Timing(
            "zkp_raft_fsync_seconds",
            "Syncs of the Raft journal to this node's disk. Slow ones slow every task: give the node a faster disk.",
            registry,
        )


class LinkStatistics(Protocol):
    """What the Raft runner knows beyond the status."""

    @property
    def leader_changes(self) -> int:
        """Number of leader changes that this node has seen."""
        ...

    def round_trips(self) -> dict[str, float]:
        """Peer → round-trip time in seconds."""
        ...

    def snapshot_file(self) -> SnapshotFile | None:
        """Newest snapshot on disk; None before the first."""
        ...


class RaftGauges(Collector):
    """One node's view of the cluster."""

    def __init__(self, replicator: Replicator, links: LinkStatistics | None) -> None:
        self._replicator = replicator
        self._links = links

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the node, which may not be up yet when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics with their present values."""
        status = self._replicator.status()
        yield from self._node(status)
        yield from _peers(status)
        if self._links is not None:
            yield from _links(self._links)

    def _node(self, status: RaftStatus) -> Iterable[Metric]:
        roles = GaugeMetricFamily(
            "zkp_raft_role", "1 for the state that this node is in; waiting: in no cluster yet.", labels=["role"]
        )
        for role in _ROLES:
            roles.add_metric([role], 1.0 if role == status.role else 0.0)
        yield roles
        for name, text, value in (
            (
                "zkp_raft_is_leader",
                "1: this node leads and is current. No 1 anywhere: see that a majority of the nodes runs.",
                self._replicator.is_leader,
            ),
            ("zkp_raft_term", "The current term; rises with each election.", status.term),
            ("zkp_raft_commit_index", "Highest entry known to be agreed on.", status.commit_index),
            ("zkp_raft_last_applied", "Highest entry applied to the state.", status.last_applied),
            ("zkp_raft_log_entries", "Entries in the log since the last snapshot.", status.log_entries),
            (
                "zkp_raft_leader_last_contact_seconds",
                "Seconds since this node last received from the leader; 0 on the leader, -1 before the first time.",
                -1.0 if status.leader_silence is None else status.leader_silence,
            ),
        ):
            yield GaugeMetricFamily(name, text, float(value))


def _peers(status: RaftStatus) -> Iterable[Metric]:
    connected = GaugeMetricFamily("zkp_raft_peer_connected", "1: the link to the peer is up.", labels=["peer"])
    lag = GaugeMetricFamily(
        "zkp_raft_peer_lag_entries", "Entries of the leader's log that the peer lacks; leader only.", labels=["peer"]
    )
    contact = GaugeMetricFamily(
        "zkp_raft_peer_last_contact_seconds", "Seconds since the peer last answered; leader only.", labels=["peer"]
    )
    for peer, seen in sorted(status.peers.items()):
        connected.add_metric([peer], 1.0 if seen.connected else 0.0)
        if seen.match_index is not None:
            lag.add_metric([peer], float(max(0, status.commit_index - seen.match_index)))
        if seen.silence is not None:
            contact.add_metric([peer], seen.silence)
    yield from (connected, lag, contact)


def _links(links: LinkStatistics) -> Iterable[Metric]:
    yield CounterMetricFamily(
        "zkp_raft_leader_changes",
        "New leaderships that this node has seen, its own included. Many: find what stalls the leader.",
        float(links.leader_changes),
    )
    trips = GaugeMetricFamily(
        "zkp_raft_peer_round_trip_seconds",
        "The kernel's smoothed round trip of the link to the peer. It is in every commit.",
        labels=["peer"],
    )
    for peer, seconds in sorted(links.round_trips().items()):
        trips.add_metric([peer], seconds)
    yield trips
    snapshot = links.snapshot_file()
    if snapshot is not None:
        yield GaugeMetricFamily(
            "zkp_raft_snapshot_size_bytes", "Size of the latest snapshot on disk.", float(snapshot.size)
        )
        yield GaugeMetricFamily(
            "zkp_raft_snapshot_age_seconds",
            "Seconds since the latest snapshot was stored.",
            max(0.0, time.time() - snapshot.stored_at),
        )
