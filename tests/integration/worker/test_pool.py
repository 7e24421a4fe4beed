"""Prover processes: proofs, crashes, and isolation between slots."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.integration.fakes import prover as fake_prover
from tests.integration.fakes.prover import PROOF, job_inputs
from worker.errors import PoolError
from worker.job import AttemptId, Job, ProvingFailed
from worker.pool import ProverPool, prover_command
from zkp.proofs import circuits
from zkp.proofs.groth16 import Verifier
from zkp.proofs.keys import KeyStore

WAIT_S = 120.0
GIGABYTE = 10**9


def job(inputs: bytes, *public_inputs: str, time_limit: float = 60.0) -> Job:
    return Job(AttemptId("t-1", 1), "addition", inputs, public_inputs, "", time_limit)


async def until(condition: Callable[[], bool]) -> None:
    """Poll until a condition in another process holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def told(pid: int, file: str) -> bytes:
    """Return the kernel's status of a process."""
    return Path(f"/proc/{pid}/{file}").read_bytes()


@pytest.fixture
async def pool() -> AsyncIterator[ProverPool]:
    """A started pool of two fake provers."""
    pool = ProverPool(fake_prover.command(), 2)
    await pool.start()
    yield pool
    await pool.stop()


@pytest.fixture
async def real(keys_dir: Path) -> AsyncIterator[ProverPool]:
    """A started pool of one real prover."""
    pool = ProverPool(prover_command(keys_dir, GIGABYTE), 1)
    await pool.start()
    yield pool
    await pool.stop()


async def failure_of(pool: ProverPool, wanted: Job) -> ProvingFailed:
    with pytest.raises(ProvingFailed) as caught:
        await pool.prove(wanted)
    assert fake_prover.SECRET not in str(caught.value)
    return caught.value


async def test_a_real_proof_verifies(real: ProverPool, keys: KeyStore) -> None:
    """The process returns a proof of the given statement."""
    prepared = circuits.prepare("addition", circuits.find("addition").sample)
    finished = await real.prove(job(prepared.inputs, *prepared.public_inputs))
    assert Verifier(keys).verify("addition", finished.proof, prepared.public_inputs)
    assert finished.id == AttemptId("t-1", 1)


async def test_inputs_that_prove_something_else_are_final(real: ProverPool) -> None:
    """The failure is final; the process continues."""
    (pid,) = real.processes
    prepared = circuits.prepare("addition", circuits.find("addition").sample)
    failure = await failure_of(real, job(prepared.inputs, "12345"))
    assert (failure.code, failure.retryable) == ("unsatisfied_inputs", False)
    assert real.processes == (pid,)


@pytest.mark.parametrize("inputs", [b"", b"{}", b"[", b"\xff\xfe", b'{"a": 1}'])
async def test_malformed_inputs_are_final(real: ProverPool, inputs: bytes) -> None:
    """Invalid inputs affect no other attempt and are not retried."""
    failure = await failure_of(real, job(inputs, "5"))
    assert (failure.code, failure.retryable) == ("invalid_inputs", False)


async def test_an_unknown_circuit_is_for_another_worker(pool: ProverPool) -> None:
    """Another worker may have its keys."""
    unknown = Job(AttemptId("t-1", 1), "merkle_proof", b"{}", (), "", 60.0)
    failure = await failure_of(pool, unknown)
    assert (failure.code, failure.retryable) == ("key_mismatch", True)


@pytest.mark.parametrize(
    ("do", "code", "words"),
    [
        ("fail", "prover_failed", "WitnessError"),
        ("panic", "prover_failed", "PanicException"),
        ("exit", "prover_failed", "exited with status 3"),
        ("allocate", "out_of_memory", "memory_limit"),
        ("abort", "out_of_memory", "memory_limit"),
    ],
)
async def test_whatever_one_proof_does_the_next_one_is_proved(
    pool: ProverPool, do: str, code: str, words: str
) -> None:
    """A failure, a panic, a crash and a lack of memory each fail one retryable attempt."""
    failure = await failure_of(pool, job(job_inputs(do)))
    assert (failure.code, failure.retryable) == (code, True)
    assert words in failure.message
    assert (await pool.prove(job(job_inputs("prove")))).proof == PROOF


async def test_a_killed_prover_costs_its_attempt_only(pool: ProverPool, tmp_path: Path) -> None:
    """SIGKILL during a proof: that attempt fails, the other slot continues, the slot is reused."""
    neighbour = asyncio.create_task(
        pool.prove(job(job_inputs("wait", begun=tmp_path / "begun-1", until=tmp_path / "go")))
    )
    await until((tmp_path / "begun-1").exists)
    victim = asyncio.create_task(
        pool.prove(job(job_inputs("wait", begun=tmp_path / "begun-2", until=tmp_path / "never")))
    )
    await until((tmp_path / "begun-2").exists)
    os.kill(int((tmp_path / "begun-2").read_text()), signal.SIGKILL)
    with pytest.raises(ProvingFailed, match="killed by SIGKILL"):
        await victim
    (tmp_path / "go").touch()
    assert (await neighbour).proof == PROOF
    assert (await pool.prove(job(job_inputs("prove")))).proof == PROOF


async def test_the_time_limit_ends_a_proof(pool: ProverPool, tmp_path: Path) -> None:
    """Its process is killed, and the attempt is retryable."""
    before = set(pool.processes)
    failure = await failure_of(pool, job(job_inputs("wait", until=tmp_path / "never"), time_limit=0.2))
    assert (failure.code, failure.message, failure.retryable) == ("timeout", "no proof within 0.2 s", True)
    assert len(before & set(pool.processes)) == 1
    assert sum(map(runs, before)) == 1


async def test_a_cancelled_proof_stops_at_once(pool: ProverPool, tmp_path: Path) -> None:
    """No CPU time is spent on a cancelled proof."""
    before = pool.processes
    proving = asyncio.create_task(
        pool.prove(job(job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "never")))
    )
    await until((tmp_path / "begun").exists)
    assert pool.busy == 1
    proving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proving
    assert pool.busy == 0
    assert sum(map(runs, before)) == 1


async def test_more_jobs_than_slots_wait_their_turn(pool: ProverPool) -> None:
    """At most two are proved at once, and all are proved."""
    finished = await asyncio.gather(*(pool.prove(job(job_inputs("prove"))) for _ in range(20)))
    assert len(finished) == 20
    assert len(set(pool.processes)) == 2


async def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    """Not even one that is proving."""
    pool = ProverPool(fake_prover.command(), 2)
    await pool.start()
    pids = pool.processes
    proving = asyncio.create_task(
        pool.prove(job(job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "never")))
    )
    await until((tmp_path / "begun").exists)
    proving.cancel()
    await asyncio.wait([proving])
    await pool.stop()
    assert not any(map(runs, pids))


async def test_provers_exit_with_their_worker(tmp_path: Path) -> None:
    """However the agent ends, SIGKILL included, its provers exit, even during a proof."""
    script = f"""
import asyncio
from tests.integration.fakes import prover as fake_prover
from tests.integration.worker.test_pool import job
from worker.pool import ProverPool
async def main():
    pool = ProverPool(fake_prover.command(), 2)
    await pool.start()
    print(*pool.processes, flush=True)
    await pool.prove(job({job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "never")!r}))
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert agent.stdout is not None
    pids = [int(pid) for pid in (await agent.stdout.readline()).split()]
    await until((tmp_path / "begun").exists)
    assert len(pids) == 2
    agent.kill()
    await agent.communicate()
    await until(lambda: not any(map(runs, pids)))


async def test_provers_limit_their_resources(pool: ProverPool) -> None:
    """They have a lower CPU priority than the agent, a memory limit, a higher OOM score, and no core files."""
    (pid, _) = pool.processes
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    limits = told(pid, "limits").decode()
    assert any(line.split()[:4] == ["Max", "data", "size", str(GIGABYTE)] for line in limits.splitlines())
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits.splitlines())
    assert int(told(pid, "oom_score_adj")) >= 500


async def test_settings_are_not_passed_to_provers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's settings in its environment are not passed on."""
    monkeypatch.setenv("WORKER_SOMETHING", fake_prover.SECRET)
    monkeypatch.setenv("KEEP_THIS", "kept")
    pool = ProverPool(fake_prover.command(), 1)
    await pool.start()
    (pid,) = pool.processes
    environment = told(pid, "environ")
    await pool.stop()
    assert fake_prover.SECRET.encode() not in environment
    assert b"KEEP_THIS=kept" in environment


async def test_keys_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    """The message names the file and the remedy."""
    damaged = KeyStore(tmp_path / "keys")
    damaged.build("addition")
    (tmp_path / "keys" / "addition" / "proving.key").write_bytes(b"not a key")
    pool = ProverPool(prover_command(tmp_path / "keys", GIGABYTE), 1)
    with pytest.raises(PoolError, match=r"addition/proving\.key: does not match circuit\.json"):
        await pool.start()
    await pool.stop()


async def test_a_program_that_cannot_start_is_named() -> None:
    """A missing interpreter is one line, not a traceback."""
    pool = ProverPool(("/nowhere/python",), 1)
    with pytest.raises(PoolError, match=r"/nowhere/python: cannot be started: No such file"):
        await pool.start()
