"""`zkp local …`: a cluster on this machine."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pki.errors import PkiError
from zkp.cli import output, status
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import find_cluster
from zkp.client.admin import ClusterStatus
from zkp.client.errors import ClientError
from zkp.localcluster import prometheus
from zkp.localcluster.cluster import DATABASE_VARIABLE, LocalCluster, LocalMember
from zkp.localcluster.layout import ADMIN, COORDINATORS, DEFAULT_DIRECTORY, GATEWAY
from zkp.localcluster.logs import follow, tail

app = typer.Typer(
    short_help="Run a cluster on this machine.",
    help="Example: zkp local up\n\n"
    "Run a cluster on this machine, for evaluation and tests: 3 coordinators, 2 workers, a gateway and an embedded "
    "PostgreSQL, each in its own process, with mutual TLS on every network connection.",
)

Dir = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Directory of the cluster.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLUMNS = ("process", "state", "pid", "addresses", "log")


@app.command(short_help="Start the cluster.")
def up(*, directory: Dir = DEFAULT_DIRECTORY) -> None:
    """Example: zkp local up

    Start the cluster in the background; processes that already run are left alone. If ZKP_DATABASE_URL is set, the
    history is projected into that server and no PostgreSQL is started.
    """
    cluster = _cluster(directory)
    started = cluster.up(output.note)
    output.line("the cluster is up" if started else "the cluster was already up")
    program = sys.argv[0] if Path(sys.argv[0]).name == "zkp" else "zkp"
    where = "" if directory == DEFAULT_DIRECTORY else f" --dir {directory}"
    output.note(f"gateway: https://{cluster.profile.addresses[GATEWAY]['https']}")
    output.note(f"next: {program} submit addition --a 20 --b 22 --wait{where}; {program} local down{where}")


@app.command(short_help="Stop the cluster and keep its data.")
def down(*, directory: Dir = DEFAULT_DIRECTORY) -> None:
    """Example: zkp local down

    Stop every process of the cluster. Data, keys and logs are kept for the next `zkp local up`.
    """
    stopped = _cluster(directory).down(output.note)
    output.line("the cluster is down" if stopped else "the cluster was already down")


@app.command(short_help="Monitor the cluster with Prometheus.")
def monitor(*, as_json: Json = False, directory: Dir = DEFAULT_DIRECTORY) -> None:
    """Example: zkp local monitor

    Start Prometheus (Debian's package, found in PATH) with the shipped rules, have it scrape every daemon over mutual
    TLS, and show its targets. `zkp local down` stops it too.
    """
    cluster = _cluster(directory)
    targets = cluster.monitor()
    if as_json:
        output.as_json([asdict(target) for target in targets])
        return
    rows = [(target.job, target.node, target.address, target.health, target.error) for target in targets]
    output.table("Targets", ("job", "node", "address", "health", "error"), rows)
    output.note(f"Prometheus: http://{prometheus.address(cluster.profile)}")


@app.command(name="status", short_help="Show processes, nodes, workers and tasks.")
def show_status(*, as_json: Json = False, directory: Dir = DEFAULT_DIRECTORY) -> None:
    """Example: zkp local status

    Show the processes and, if a coordinator answers, the output of `zkp status`. Fails if a process is down, if no
    coordinator answers, or if there is no leader.
    """
    cluster = _cluster(directory)
    members = cluster.members()
    if not members:
        raise CommandFailed(f"no local cluster in {directory}; run `zkp local up`")
    found, problem = _query(members, directory)
    if as_json:
        processes = [_to_json(member) for member in members]
        output.as_json({"processes": processes, "cluster": found and status.to_json(found), "problem": problem})
    else:
        output.table("Processes", _COLUMNS, [_row(member) for member in members])
        if found is not None:
            status.show(found)
        else:
            output.line(f"Cluster: {problem}")
    down_now = [member.name for member in members if member.pid is None]
    if down_now:
        raise CommandFailed(f"down: {', '.join(down_now)}; run `zkp local up`")
    if problem:
        raise CommandFailed(problem)


@app.command(short_help="Show the logs of the daemons.")
def logs(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Process; default: all.")] = None,
    *,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines per process.")] = 20,
    directory: Dir = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp local logs coordinator-1 --follow

    Show the last lines of one log or of all logs.
    """
    known = {member.name: member.log for member in _cluster(directory).members()}
    if not known:
        raise CommandFailed(f"no local cluster in {directory}; run `zkp local up`")
    if name is not None and name not in known:
        raise UsageProblem(f"{name}: unknown process; give one of {', '.join(known)}")
    chosen = known if name is None else {name: known[name]}
    width = max(map(len, chosen))
    for process, log in chosen.items():
        for text in tail(log, lines):
            output.line(_labelled(process, text, chosen, width))
    if following:
        for process, text in follow(chosen):
            output.line(_labelled(process, text, chosen, width))


@app.command(short_help="Run a demonstration from start to end.")
def demo(
    *,
    leaves: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="List to prove membership of; default: 1,000 example addresses."),
    ] = None,
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Directory of the demo; files of an earlier demo are deleted."),
    ] = Path(".zkp-demo"),
) -> None:
    """Example: zkp local demo

    Start a new cluster, submit 24 Merkle proofs and some range and addition proofs, kill the leader with SIGKILL
    while tasks are queued, verify every proof with the exported verifying keys, and stop the cluster.
    """
    try:
        from zkp.cli.demo.demo import run  # noqa: PLC0415 - needs what only the extras bring
    except ModuleNotFoundError as error:
        raise CommandFailed(f"{error.name}: is not installed; run: pip install 'zkp-network[all]'") from None
    run(directory, leaves, database_url=os.environ.get(DATABASE_VARIABLE) or None)


def _cluster(directory: Path) -> LocalCluster:
    return LocalCluster(directory, database_url=os.environ.get(DATABASE_VARIABLE) or None)


def _query(members: Sequence[LocalMember], directory: Path) -> tuple[ClusterStatus | None, str]:
    """Return the status from the coordinators or None, and the problem with it or an empty string."""
    if not any(member.pid for member in members if member.name in COORDINATORS):
        return None, "no answer: every coordinator is down"
    try:
        found = status.query(find_cluster(None, None, directory, role=ADMIN))
    except (ClientError, PkiError) as error:
        return None, f"no answer: {error}"
    return found, "" if found.leader else status.NO_LEADER


def _row(member: LocalMember) -> tuple[object, ...]:
    addresses = " ".join(f"{purpose}={address}" for purpose, address in member.addresses.items())
    return member.name, _state(member), member.pid or "", addresses, member.log


def _to_json(member: LocalMember) -> dict[str, object]:
    return {
        "name": member.name,
        "state": _state(member),
        "pid": member.pid,
        "addresses": member.addresses,
        "log": str(member.log),
    }


def _state(member: LocalMember) -> str:
    return "down" if member.pid is None else "up"


def _labelled(process: str, text: str, chosen: Mapping[str, Path], width: int) -> str:
    return text if len(chosen) == 1 else f"{process.ljust(width)} | {text}"
