"""Prometheus for a local cluster: its targets and their labels."""

import shutil
from pathlib import Path

import pytest

from zkp.localcluster import configuration, ports, prometheus
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.layout import Layout
from zkp.localcluster.profile import ClusterProfile

ADDRESSES = configuration.addresses(17000, 2)


def test_every_member_is_a_target_under_its_nodes_id() -> None:
    """Coordinators are scraped at their metrics address, other daemons at their health address."""
    groups = prometheus.target_groups(ADDRESSES)
    found = {
        (job, group["labels"]["node"], *group["targets"])  # type: ignore[index, misc] # JSON as Prometheus reads it
        for job, job_groups in groups.items()
        for group in job_groups
    }
    assert found == {
        ("coordinator", "coordinator-1", "127.0.0.1:17031"),
        ("coordinator", "coordinator-2", "127.0.0.1:17032"),
        ("coordinator", "coordinator-3", "127.0.0.1:17033"),
        ("worker", "worker-1", "127.0.0.1:17041"),
        ("worker", "worker-2", "127.0.0.1:17042"),
        ("gateway", "gateway", "127.0.0.1:17061"),
    }


def test_every_job_of_the_configuration_has_a_file_of_targets() -> None:
    """Every job has a target file, even if it is empty."""
    assert prometheus.target_groups(ADDRESSES).keys() == {
        "coordinator",
        "worker",
        "gateway",
        "infrastructure",
        "alertmanager",
    }


def test_its_page_is_in_the_clusters_own_block_of_ports() -> None:
    """Prometheus' address is in the block and not used by a member."""
    place = prometheus.address(ClusterProfile(ADDRESSES))
    assert place == f"127.0.0.1:{17000 + ports.PROMETHEUS}"
    assert place not in {address for own in ADDRESSES.values() for address in own.values()}


def test_a_missing_prometheus_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs Prometheus."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(LocalClusterError, match="apt install --no-install-recommends prometheus"):
        prometheus.program()


def test_without_a_checkout_there_are_no_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the shipped rules, as in an installed package, there is an error and nothing is written."""
    monkeypatch.setattr(prometheus, "SHIPPED", tmp_path / "nowhere")
    with pytest.raises(LocalClusterError, match=r"prometheus\.yml is missing; run this from a checkout"):
        prometheus.prepare(Layout(tmp_path / "cluster"), ClusterProfile(ADDRESSES))
    assert not (tmp_path / "cluster").exists()
