"""What was measured as a page of Markdown. Pure: results in, text out; parts that were not measured are left out."""

from collections.abc import Callable
from typing import Any

from tests.bench.raft.payload import BATCH, SIZE
from tests.bench.raft.results import Spread

_HEAD = f"""# The coordinators beside etcd

Written by `make bench`; `make bench PARTS="growth steady"` measures again what takes long. Both are three processes
on one machine with mutual TLS between all of them and towards the client, with certificates of our authority, and
wait for a quorum's fdatasync. Both are called by the same generator (grpc.aio, one process, one connection to the
leader), which shares the machine with them. A task has {SIZE} bytes: a submission of ours, which is parsed, checked,
authorised, counted and queued, or a key and a value of etcd's. PostgreSQL is away while throughput is measured, as it
would run on another machine.
"""


def write(results: dict[str, Any], chart: str) -> str:
    """The page; `chart`: the name of the picture beside it."""
    sections: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("comparison", lambda values: _comparison(values, chart)),
        ("latency", _latency),
        ("failover", _failover),
        ("growth", _growth),
        ("steady", _steady),
    ]
    parts = [_HEAD]
    for name, render in sections:
        if name in results:
            parts.append(f"{render(results[name])}\nMeasured on {results[name]['machine']}.\n")
    return "\n".join(parts)


def _comparison(values: dict[str, Any], chart: str) -> str:
    figures, ratios = values["figures"], values["ratios"]
    theirs, ours, empty = figures["etcd"], figures["coordinators"], figures["empty"]
    rows = []
    for name in sorted(ours, key=_place):
        kind, _, outstanding = name.partition(" ")
        etcd = f"{theirs[name]['rate']:,.0f}" if name in theirs else "its best unary"
        latency = f"{ours[name]['p50'] * 1e3:.2f} ms"
        if name in theirs:
            latency += f" / {theirs[name]['p50'] * 1e3:.2f} ms"
        bound = f"{empty[name]['rate']:,.0f}" if name in empty else ""
        rows.append(
            f"| {_KINDS[kind]} | {outstanding} | {ours[name]['rate']:,.0f} | {etcd} | {_ratio(ratios[name])} "
            f"| {latency} | {_cpu(name, ours, theirs)} | {bound} |"
        )
    alone = _ratio(ratios["unary 1 latency"])
    return f"""## Throughput

![Tasks accepted a second]({chart})

| | outstanding | ours | etcd | ratio | p50 per message, ours / etcd | CPU µs per task, ours / etcd | empty server |
|---|---:|---:|---:|---:|---:|---:|---:|
{chr(10).join(rows)}

{values["rounds"]} rounds, in each both sides in turn with new data, {values["seconds"]:g} s a cell. Tasks a second
are medians over the rounds; a ratio is the median of the rounds' own ratios, with the quartiles. With one message
outstanding the latency is {alone} of etcd's. Both have etcd's timers here (heartbeats of 100 ms).

Rates are tasks per second. CPU time is that of the leader, then that of the three nodes and the load generator; it
depends less than the rates on what else the machine does.

The empty server is one process with the coordinators' gRPC server and handlers that answer at once: the bound of this
server and of the load generator on this machine.
"""


def _cpu(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    sides = [side[name] for side in (ours, theirs) if name in side]
    return " / ".join(f"{side['leader_us']:.0f}, {side['all_us']:.0f}" for side in sides)


_KINDS = {
    "unary": "one task per call",
    "stream": "one task per message, one stream",
    "client": "one task at a time, through our client library",
    "batch": f"{BATCH} tasks per call",
}


def _place(name: str) -> tuple[int, int]:
    """Where a cell is in the table: JSON keeps no order."""
    kind, _, outstanding = name.partition(" ")
    return list(_KINDS).index(kind), int(outstanding)


def _ratio(spread: list[float]) -> str:
    median, low, high = spread
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _latency(values: dict[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {seconds * 1e3:.3f} |" for name, seconds in values["parts"])
    return f"""## Where the time of one commit goes

One task a call, one outstanding; medians, in milliseconds.

| part | ms |
|---|---:|
{rows}
| **the whole, as the client sees it** | **{values["whole"] * 1e3:.3f}** |

The physical limits beside it: one fdatasync takes {values["fdatasync"] * 1e3:.3f} ms when nothing else happens, one
round trip over the loopback interface, between two threads, {values["round_trip"] * 1e3:.3f} ms.
"""


def _failover(values: dict[str, Any]) -> str:
    rows = []
    for side, ways in values["seconds"].items():
        for way, seconds in ways.items():
            spread = Spread.of(seconds)
            rows.append(
                f"| {side} | {way} | {spread.median * 1e3:.0f} | {spread.low * 1e3:.0f} to {spread.high * 1e3:.0f} "
                f"| {max(seconds) * 1e3:.0f} |"
            )
    lines = "\n".join(rows)
    ours, theirs = values["seconds"]["coordinators"], values["seconds"]["etcd"]
    ratios = [f"{way} {Spread.of(ours[way]).median / Spread.of(theirs[way]).median:.2f}" for way in ours]
    return f"""## Failover

From the leader's end to the next accepted submission, for a client that asks both others every 5 ms;
{values["times"]} times each, in milliseconds. Killed: SIGKILL, which closes its connections. Frozen: SIGSTOP, which
closes nothing, so that only timers detect it.

| | leader | median | quartiles | longest |
|---|---|---:|---:|---:|
{lines}

Ours over etcd's with its own timers, medians: {", ".join(ratios)}. Timers: ours 50 ms heartbeats and 250 to 500 ms
elections, as installed; etcd's own are 100 ms and 1,000 to 2,000 ms.
"""


def _growth(values: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {size['tasks']:,} | {size['leader_bytes'] / 2**20:,.0f} | {size['disk_bytes'] / 2**20:,.0f} "
        f"| {size['restart_seconds']:.1f} | {size['restarted_bytes'] / 2**20:,.0f} |"
        for size in values["sizes"]
    )
    return f"""## Growth

Tasks that are neither proved nor projected, which is the most that a task can cost. Restart: a follower is
killed and started; the time runs from the start of the process until it has applied all that is agreed on.

| tasks | leader, MiB | disk, MiB | restart, s | restarted, MiB |
|---:|---:|---:|---:|---:|
{rows}
"""


def _steady(values: dict[str, Any]) -> str:
    samples = values["samples"]
    marks = [samples[round(share * (len(samples) - 1))] for share in (0.1, 0.25, 0.5, 0.75, 1.0)]
    times = [
        round((share * (len(samples) - 1) + 1) * values["every"] / 60, 1) for share in (0.1, 0.25, 0.5, 0.75, 1.0)
    ]
    rows = "\n".join(
        f"| {minutes:g} | {' | '.join(f'{value / 2**20:,.0f}' for value in mark)} |"
        for minutes, mark in zip(times, marks, strict=True)
    )
    return f"""## Steady load

{values["rate"]} tasks a second for {values["seconds"] / 60:g} minutes, {values["tasks"]:,} in all, each submitted,
cancelled, recorded in PostgreSQL and forgotten five seconds later.

| minute | leader, MiB | follower, MiB | follower, MiB |
|---:|---:|---:|---:|
{rows}
"""
