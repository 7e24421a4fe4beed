"""What any daemon says of itself as a process."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from zkp.daemon.process_metrics import DiskMetrics, watch_process


def test_a_daemon_tells_version_process_and_disk(tmp_path: Path) -> None:
    """The disk under its data, so that no other exporter is needed to see it fill up."""
    registry = CollectorRegistry()
    watch_process(registry, version="1.2.3", data_dir=tmp_path)
    page = generate_latest(registry).decode()
    assert 'zkp_build_info{python="3.' in page
    assert 'version="1.2.3"} 1.0' in page
    size, free = (registry.get_sample_value(f"zkp_disk_{what}_bytes") or 0 for what in ("size", "free"))
    assert 0 <= free <= size
    assert size > 0
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 0


def test_a_daemon_that_keeps_nothing_has_no_disk() -> None:
    """A gateway may run anywhere."""
    registry = CollectorRegistry()
    watch_process(registry, version="1.2.3")
    assert "zkp_disk" not in generate_latest(registry).decode()


def test_a_directory_that_went_away_does_not_break_the_scrape(tmp_path: Path) -> None:
    """The other metrics are wanted all the more."""
    assert list(DiskMetrics(tmp_path / "gone").collect()) == []
