"""The profile file, cluster.json."""

from pathlib import Path

import pytest

from zkp.localcluster import configuration
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.process import ProcessRecord
from zkp.localcluster.profile import ClusterProfile

RECORD = ProcessRecord(pid=4321, started_ticks=99, boot_id="2f8d4a36-0b0e-4c3e-9a5b-1f2e3d4c5b6a")


def profile() -> ClusterProfile:
    """A profile with one process."""
    return ClusterProfile(configuration.addresses(17000, 2)).with_process("worker-1", RECORD)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Addresses and processes are the same after saving and loading."""
    path = tmp_path / "cluster.json"
    profile().save(path)

    assert ClusterProfile.load(path) == profile()
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.json"]


def test_no_file_is_no_cluster(tmp_path: Path) -> None:
    """A directory without a cluster has no profile."""
    assert ClusterProfile.load(tmp_path / "cluster.json") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "not json", '{"format": 1, "addresses": {}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    """A malformed profile is an error with a hint, not an empty cluster."""
    path = tmp_path / "cluster.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(LocalClusterError, match=r"cluster\.json: is damaged; stop the cluster's processes"):
        ClusterProfile.load(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A profile of another version is rejected."""
    path = tmp_path / "cluster.json"
    path.write_text('{"format": 2}', encoding="utf-8")

    with pytest.raises(LocalClusterError, match="has the format of another version"):
        ClusterProfile.load(path)


def test_a_forgotten_process_is_gone_and_the_others_stay() -> None:
    """Removing one process keeps the others."""
    two = profile().with_process("gateway", RECORD)

    assert dict(two.without_process("worker-1").processes) == {"gateway": RECORD}


def test_coordinators_are_where_clients_find_them() -> None:
    """The gRPC addresses are in the order of the nodes."""
    assert profile().coordinators == ("127.0.0.1:17011", "127.0.0.1:17012", "127.0.0.1:17013")


def test_nothing_secret_is_in_it(tmp_path: Path) -> None:
    """The profile contains no password."""
    path = tmp_path / "cluster.json"
    profile().save(path)

    assert "url" not in path.read_text(encoding="utf-8")
