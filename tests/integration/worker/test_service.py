"""The worker process: configuration file, signals, /health and exit status."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from pki.tls.material import TlsFiles, TlsMaterial
from pki.x509.identity import Role
from pki.x509.serials import format_serial
from tests.integration.fakes.coordinators import HOST, WAIT_S, Cluster, Network
from zkp.proofs import circuits
from zkp.proofs.groth16 import Verifier
from zkp.proofs.keys import KeyStore
from zkp.protocol.v1 import coordinator_pb2 as pb

SAMPLE = {"a": "47110008151", "b": "1"}


@dataclass
class Running:
    """A worker process and its log."""

    process: asyncio.subprocess.Process
    said: list[str]
    reading: asyncio.Task[None]

    @property
    def provers(self) -> list[int]:
        """Process ids of its children."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(WAIT_S):
            status = await self.process.wait()
            await self.reading
        return status

    @property
    def text(self) -> str:
        return "\n".join(self.said)


class Host:
    """A configured worker: its files, and the command."""

    def __init__(self, directory: Path, cluster: Cluster, keys_dir: Path) -> None:
        self.directory = directory
        self.cluster = cluster
        with socket.create_server((HOST, 0)) as probe:
            self.port = probe.getsockname()[1]
        cluster.network.issue("worker-1", Role.WORKER)
        (directory / "data").mkdir()
        self.configuration = {
            "id": "worker-1",
            "coordinators": list(cluster.addresses),
            "max_concurrent_tasks": 1,
            "keys_dir": str(keys_dir),
            "data_dir": str(directory / "data"),
            "drain_timeout": "500ms",
            "tls": {part: str(directory / "worker-1" / f"{part}.pem") for part in ("certificate", "key", "ca")},
            "metrics": {"bind": f"{HOST}:{self.port}"},
        }
        self.started: list[Running] = []

    async def run(self, *arguments: str) -> Running:
        """Start `worker` with the configuration as it is now."""
        file = self.directory / "worker.yaml"
        file.write_text(json.dumps(self.configuration))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", *arguments, "--config", str(file), stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said: list[str] = []

        async def read() -> None:
            assert process.stderr is not None
            async for line in process.stderr:
                said.append(line.decode().rstrip())  # noqa: PERF401 - shared with the reader of `said`

        running = Running(process, said, asyncio.create_task(read()))
        self.started.append(running)
        return running

    async def serve(self) -> Running:
        """Start it and wait until it receives tasks."""
        streams = len(self.cluster.records.streams)
        running = await self.run()
        await self.cluster.until(lambda: len(self.cluster.records.streams) > streams)
        return running

    def give(self, task_id: str) -> None:
        """Assign a real addition to the worker."""
        prepared = circuits.prepare("addition", SAMPLE)
        self.cluster.submit(
            pb.Submission(
                task_id=task_id,
                circuit="addition",
                inputs=prepared.inputs,
                public_inputs=prepared.public_inputs,
            )
        )
        self.cluster.assign(task_id, "worker-1")

    async def ask(self, path: str, material: TlsMaterial) -> tuple[int, str]:
        """Status and body."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"https://{HOST}:{self.port}{path}", ssl=material.client_context()) as response,
        ):
            return response.status, await response.text()

    async def serves(self, material: TlsMaterial) -> bool:
        """Return whether it accepts this certificate."""
        try:
            await self.ask("/health", material)
        except aiohttp.ClientError:
            return False
        return True

    async def certificate(self, material: TlsMaterial) -> bytes:
        """Return the certificate that the worker presents."""
        _, writer = await asyncio.open_connection(HOST, self.port, ssl=material.client_context())
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return shown

    def finished(self, task_id: str) -> Callable[[], Any]:
        return lambda: self.cluster.tasks[task_id].state == pb.TASK_STATE_COMPLETED


@pytest.fixture
async def host(tmp_path: Path, keys: KeyStore, keys_dir: Path) -> AsyncIterator[Host]:
    """A configured worker and three coordinators; its processes are gone afterwards."""
    async with Cluster(Network(tmp_path), keys=keys.verifying_keys()) as cluster:
        host = Host(tmp_path, cluster, keys_dir)
        yield host
        for running in host.started:
            if running.process.returncode is None:
                running.process.kill()
            await running.ended()
            await running.process.communicate()  # to the end of its output, before the event loop closes


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_it_proves_and_stops_cleanly(host: Host, keys: KeyStore) -> None:
    """A real proof, then SIGTERM: exit status 0, no prover left, and no input in the log."""
    running = await host.serve()
    host.give("t-1")
    await host.cluster.until(host.finished("t-1"))
    public_inputs = circuits.prepare("addition", SAMPLE).public_inputs
    assert Verifier(keys).verify("addition", host.cluster.tasks["t-1"].proof, public_inputs)
    provers = running.provers
    running.process.send_signal(signal.SIGTERM)
    assert await running.ended() == 0, running.text
    assert not any(map(exists, provers))
    assert "t-1" in running.text
    assert SAMPLE["a"] not in running.text


async def test_sigterm_releases_unfinished_tasks(host: Host) -> None:
    """A prover that does not finish within drain_timeout is killed, its task released; the exit status is 0."""
    running = await host.serve()
    (prover,) = running.provers
    os.kill(prover, signal.SIGSTOP)
    host.give("t-1")
    await host.cluster.until(lambda: host.cluster.records.starts)
    running.process.send_signal(signal.SIGTERM)
    assert await running.ended() == 0, running.text
    (report,) = host.cluster.records.failures
    assert (report.task_id, report.attempt, report.released) == ("t-1", 1, True)
    assert not exists(prover)


async def test_a_killed_prover_process_is_replaced(host: Host) -> None:
    """The agent reports the attempt and proves the next one."""
    running = await host.serve()
    (prover,) = running.provers
    os.kill(prover, signal.SIGSTOP)
    host.give("t-1")
    await host.cluster.until(lambda: host.cluster.records.starts)
    os.kill(prover, signal.SIGKILL)
    await host.cluster.until(lambda: host.cluster.records.failures)
    assert host.cluster.records.failures[0].error.code == "prover_failed"
    host.cluster.assign("t-1", "worker-1")
    await host.cluster.until(host.finished("t-1"))


async def test_a_proof_outlives_the_process_that_made_it(host: Host) -> None:
    """SIGKILL between proof and report: the next process reports it, under another incarnation."""
    host.cluster.refusals["ReportCompletion"] = (grpc.StatusCode.UNAVAILABLE, "not now")
    running = await host.serve()
    host.give("t-1")
    await host.cluster.until(lambda: ("UNAVAILABLE", "not now") in host.cluster.records.refused)
    running.process.kill()
    await running.ended()
    del host.cluster.refusals["ReportCompletion"]
    await host.serve()
    await host.cluster.until(host.finished("t-1"))
    first, second = host.cluster.records.registrations
    assert first.incarnation != second.incarnation
    assert host.cluster.tasks["t-1"].attempt == 1
    assert host.cluster.records.starts == [("t-1", 1)]  # it was not proved again


async def test_sigterm_without_a_leader_leaves_the_proof_on_disk(host: Host) -> None:
    """The process does not use its drain time to wait for a leader, and the next process reports the proof."""
    host.configuration["drain_timeout"] = "1h"
    host.cluster.refusals["ReportCompletion"] = (grpc.StatusCode.UNAVAILABLE, "not now")
    running = await host.serve()
    host.give("t-1")
    await host.cluster.until(lambda: ("UNAVAILABLE", "not now") in host.cluster.records.refused)
    host.cluster.lead(None)
    running.process.send_signal(signal.SIGTERM)
    assert await running.ended() == 0, running.text
    assert len(list((host.directory / "data" / "spool").glob("*.proof"))) == 1
    del host.cluster.refusals["ReportCompletion"]
    host.cluster.lead(0)
    await host.serve()
    await host.cluster.until(host.finished("t-1"))
    assert host.cluster.records.starts == [("t-1", 1)]  # it was not proved again


async def test_health_and_metrics_are_served_by_role(host: Host) -> None:
    """Health to any member, metrics to Prometheus and admins."""
    await host.serve()
    host.give("t-1")
    await host.cluster.until(host.finished("t-1"))
    client = host.cluster.network.material("client-1", Role.CLIENT)
    prometheus = host.cluster.network.material("prometheus", Role.PROMETHEUS)
    status, body = await host.ask("/health", client)
    health = json.loads(body)
    assert status == 200
    assert (health["status"], health["daemon"]) == ("ok", "worker")
    assert (health["id"], health["state"], health["leader"]) == ("worker-1", "online", host.cluster.addresses[0])
    assert (health["capacity"], health["circuits"]) == (1, ["addition"])
    assert (await host.ask("/ready", client))[0] == 200
    assert (await host.ask("/metrics", client))[0] == 403
    status, body = await host.ask("/metrics", prometheus)
    assert status == 200
    assert 'zkp_worker_attempts_total{circuit="addition",outcome="proved"} 1.0' in body
    assert "zkp_worker_online 1.0" in body


async def test_a_worker_without_a_leader_is_not_ready(host: Host) -> None:
    """It is healthy, shows its state, and is not ready."""
    host.cluster.lead(None)
    await host.run()
    client = host.cluster.network.material("client-1", Role.CLIENT)
    await host.cluster.until(lambda: host.cluster.records.refused)
    status, body = await host.ask("/health", client)
    assert (status, json.loads(body)["state"]) == (200, "searching")
    assert (await host.ask("/ready", client))[0] == 503


async def test_sighup_loads_a_renewed_certificate(host: Host) -> None:
    """New connections use it, in both directions, and the running task is not affected."""
    running = await host.serve()
    client = host.cluster.network.material("client-1", Role.CLIENT)
    before = await host.certificate(client)
    host.cluster.network.issue("worker-1", Role.WORKER, replace=True)
    running.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(WAIT_S):
        while await host.certificate(client) == before:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)
    host.give("t-1")
    await host.cluster.until(host.finished("t-1"))
    assert host.cluster.records.failures == []


async def test_a_renewed_certificate_is_loaded_without_a_signal(host: Host) -> None:
    """It checks the files itself, and its metrics show the expiry of each certificate."""
    await host.serve()
    prometheus = host.cluster.network.material("prometheus", Role.PROMETHEUS)
    host.cluster.network.issue("worker-1", Role.WORKER, replace=True)
    renewed = TlsMaterial.load(TlsFiles.in_directory(host.directory / "worker-1")).certificate.serial_number
    async with asyncio.timeout(WAIT_S):
        while f'{{kind="leaf",serial="{format_serial(renewed)}"}}' not in (await host.ask("/metrics", prometheus))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "zkp_tls_reloads_total 1.0" in (await host.ask("/metrics", prometheus))[1]


async def test_the_worker_refuses_revoked_certificates(host: Host) -> None:
    """It follows the revocations of the current leader."""
    await host.serve()
    client = host.cluster.network.material("client-1", Role.CLIENT)
    other = host.cluster.network.material("client-2", Role.CLIENT)
    for leads, revoked in ((0, client), (1, other)):
        host.cluster.lead(leads)
        assert (await host.ask("/health", revoked))[0] == 200
        host.cluster.revoke(revoked.certificate.serial_number)
        async with asyncio.timeout(WAIT_S):
            while await host.serves(revoked):
                pass


async def test_two_workers_do_not_share_a_spool(host: Host) -> None:
    """The second one names the directory and the remedy, and exits."""
    await host.serve()
    host.configuration["metrics"] = {"bind": f"{HOST}:{host.port + 1}"}
    second = await host.run()
    assert await second.ended() == 1
    assert "in use by another worker; give each worker its own data_dir" in second.text


async def test_a_worker_without_keys_does_not_start(host: Host) -> None:
    """`check` and the start print the same line."""
    (host.directory / "empty").mkdir()
    host.configuration["keys_dir"] = str(host.directory / "empty")
    checked = await host.run("check")
    assert await checked.ended() == 1
    assert checked.said == [
        f"error: keys_dir: {host.directory}/empty contains no proving keys; copy the network's keys there"
    ]
    started = await host.run()
    assert await started.ended() == 1
    assert "contains no proving keys" in started.text
    assert "Traceback" not in started.text


async def test_check_lists_the_provable_circuits(host: Host) -> None:
    """A valid configuration gives one line on standard output and exit status 0."""
    checked = await host.run("check")
    assert await checked.ended() == 0, checked.text
    assert checked.process.stdout is not None
    out = (await checked.process.stdout.read()).decode()
    assert out == "worker-1: configuration is valid; can prove addition\n"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "error: Invalid value for --config: missing; give --config FILE"),
        (("--bogus",), 2, "error: No such option: --bogus"),
        (("--config", "/nowhere.yaml"), 1, "error: /nowhere.yaml: no such file"),
        (("check", "--config", "/nowhere.yaml"), 1, "error: /nowhere.yaml: no such file"),
    ],
)
async def test_a_usage_error_is_one_line(arguments: tuple[str, ...], status: int, words: str) -> None:
    """Exit status 2 for usage errors, 1 for failures; never a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *arguments, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == status
    assert said.decode().startswith(words)
    assert said.count(b"\n") == 1
