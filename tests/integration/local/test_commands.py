"""The `zkp` command against a running cluster."""

import json
from pathlib import Path

import pytest

from zkp.cli import app
from zkp.localcluster.cluster import LocalCluster

LEAVES = Path(__file__).parents[3] / "examples" / "allowlist.csv"


@pytest.fixture
def where(cluster: LocalCluster) -> list[str]:
    """The options for the cluster."""
    return ["--dir", str(cluster.layout.root)]


def test_a_proof_of_membership_is_made_and_verified(
    where: list[str], keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submit, wait, save the proof, export the key, and verify with these two files alone."""
    proof, key = tmp_path / "proof.json", tmp_path / "verification_key.json"
    asked = ["submit", "merkle", "--leaves", str(LEAVES), "--index", "17", "--out", str(proof)]

    assert app.run([*asked, "--json", *where]) == 0
    task = json.loads(capsys.readouterr().out)[0]
    assert app.run(["circuits", "export", "merkle_proof", "--keys", str(keys), "--out", str(key)]) == 0
    capsys.readouterr()
    assert app.run(["verify", str(proof), "--key", str(key), "--json"]) == 0

    (result,) = json.loads(capsys.readouterr().out)
    assert result["valid"] is True
    assert result["task_id"] == task["id"]
    assert list(result["public_inputs"].values()) == task["public_inputs"]


def test_a_changed_statement_is_found_out(
    where: list[str], keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed public input makes the proof invalid."""
    proof, key = tmp_path / "proof.json", tmp_path / "verification_key.json"
    assert app.run(["submit", "addition", "--a", "1", "--b", "2", "--out", str(proof), *where]) == 0
    assert app.run(["circuits", "export", "addition", "--keys", str(keys), "--out", str(key)]) == 0
    forged = json.loads(proof.read_text(encoding="utf-8")) | {"public_inputs": ["4"]}
    proof.write_text(json.dumps(forged), encoding="utf-8")
    capsys.readouterr()

    assert app.run(["verify", str(proof), "--key", str(key)]) == 1
    assert "1 of 1 proofs are not valid" in capsys.readouterr().err


def test_many_proofs_end_in_a_directory(where: list[str], keys: Path, tmp_path: Path) -> None:
    """`--count` makes a valid proof per entry, from the index on."""
    out, key = tmp_path / "proofs", tmp_path / "key.json"
    asked = ["submit", "merkle", "--leaves", str(LEAVES), "--index", "998", "--count", "4"]

    assert app.run([*asked, "--out", str(out), *where]) == 0
    assert app.run(["circuits", "export", "merkle_proof", "--keys", str(keys), "--out", str(key)]) == 0

    proofs = sorted(str(path) for path in out.iterdir())
    assert len(proofs) == 4
    assert app.run(["verify", *proofs, "--key", str(key)]) == 0


def test_private_inputs_come_from_a_file_and_are_printed_nowhere(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number and the blinding of a range proof are neither printed nor in the proof file."""
    inputs, proof, blinding = tmp_path / "inputs.json", tmp_path / "proof.json", tmp_path / "blinding"
    inputs.write_text('{"value": 987654321}', encoding="utf-8")
    asked = ["submit", "range", "--inputs", str(inputs), "--min", "1", "--max", "999999999"]

    assert app.run([*asked, "--blinding-out", str(blinding), "--out", str(proof), "--json", *where]) == 0

    captured = capsys.readouterr()
    said = captured.out + captured.err + proof.read_text(encoding="utf-8")
    assert "987654321" not in said
    assert blinding.read_text(encoding="ascii").strip() not in said


def test_the_same_submission_is_the_same_task_and_another_is_refused(
    where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a task id a repeated command is idempotent."""
    first = ["submit", "addition", "--a", "1", "--b", "2", "--task-id", "once", "--wait", *where]
    assert app.run(first) == 0
    assert app.run(first) == 0
    capsys.readouterr()

    assert app.run(["submit", "addition", "--a", "1", "--b", "3", "--task-id", "once", *where]) == 1
    assert "once exists with other content" in capsys.readouterr().err
    assert app.run(["list", "--json", "--limit", "1000", *where]) == 0
    assert [task["id"] for task in json.loads(capsys.readouterr().out)].count("once") == 1


def test_a_task_is_followed_to_its_end(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`watch` ends with the final state, which determines its exit status."""
    assert app.run(["submit", "addition", "--a", "3", "--b", "4", "--task-id", "watched", *where]) == 0
    capsys.readouterr()

    assert app.run(["watch", "watched", "--json", *where]) == 0

    versions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert versions[-1]["state"] == "completed"
    assert versions[-1]["public_inputs"] == ["7"]


def test_a_task_that_has_ended_cannot_be_cancelled(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown task is named."""
    assert app.run(["submit", "addition", "--a", "5", "--b", "6", "--task-id", "ended", "--wait", *where]) == 0
    capsys.readouterr()

    assert app.run(["cancel", "ended", *where]) == 1
    assert "ended" in capsys.readouterr().err
    assert app.run(["cancel", "nobody", *where]) == 1
    assert "nobody" in capsys.readouterr().err


def test_leadership_is_handed_over(
    cluster: LocalCluster, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The named node is the new leader."""
    before = cluster.wait_for_leader()
    heir = next(name for name in ("coordinator-1", "coordinator-2") if name != before.id)

    assert app.run(["admin", "transfer", "--to", heir, *where]) == 0
    assert capsys.readouterr().out == f"new leader: {heir}\n"
    after = cluster.wait_for_leader(other_than=before)
    assert after.id == heir


def test_a_client_is_no_admin(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A client's certificate does not permit admin commands."""
    profile = cluster.profile
    as_client = [
        "--coordinators",
        ",".join(profile.coordinators),
        "--identity",
        str(cluster.layout.identity("client")),
    ]

    assert app.run(["admin", "transfer", *as_client]) == 1
    assert "admin" in capsys.readouterr().err
    assert app.run(["list", *as_client]) == 0
