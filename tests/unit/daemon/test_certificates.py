"""Reloading certificates when their files change, without sockets and without waiting."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pki.ca.authority import Authority
from pki.tls.material import TlsError, TlsFiles
from pki.x509.identity import Role
from pki.x509.serials import format_serial
from zkp.daemon import certificates as module
from zkp.daemon.certificates import Certificates
from zkp.daemon.tls_metrics import TlsMetrics

NOW = datetime.now(UTC)
PATIENCE_S = 20.0


class Host:
    """A machine with a worker's identity on its disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create("zkp.local", now=NOW)
        self.files = self.issue("worker-1")
        self.certificates = Certificates.load(self.files)
        self.changes = 0
        self.certificates.on_change(self._count)

    def _count(self) -> None:
        self.changes += 1

    def issue(self, name: str) -> TlsFiles:
        """A new identity; worker-1's takes the place of the old one."""
        issued = self.authority.issue(name, Role.WORKER, now=NOW)
        return issued.write(self.directory, replace=True)

    @property
    def served(self) -> str:
        return format_serial(self.certificates.material.certificate.serial_number)

    def count(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(TlsMetrics(self.certificates))
        return registry.get_sample_value(name, labels)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(module, "_PERIOD_S", 0)
    monkeypatch.setattr(module, "_SETTLE_S", 0)
    return Host(tmp_path)


@asynccontextmanager
async def watching(host: Host) -> AsyncIterator[Callable[[Callable[[], bool]], Awaitable[None]]]:
    """The watch runs; what is given waits for a condition."""
    task = asyncio.create_task(host.certificates.watch())

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(0)

    try:
        yield until
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_new_files_are_taken_up_and_whoever_asked_is_told(host: Host) -> None:
    """Once for each change, with nobody sending a signal."""
    before = host.served
    async with watching(host) as until:
        host.issue("worker-1")
        await until(lambda: host.served != before)
    assert host.changes == 1


async def test_files_that_stay_are_left_alone(host: Host) -> None:
    """Looking costs nothing."""
    async with watching(host):
        for _ in range(20):
            await asyncio.sleep(0)
    assert host.changes == 0
    assert host.count("zkp_tls_reloads_total") == 0


async def test_broken_files_are_refused_logged_and_counted(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """The old certificate goes on, and mended files are taken up by themselves."""
    before = host.served
    key = host.files.key.read_bytes()
    async with watching(host) as until:
        host.files.key.write_bytes(b"half a k")
        await until(lambda: host.count("zkp_tls_reload_failures_total") == 1)
        assert (host.served, host.changes) == (before, 0)
        assert "are not used, the old ones stay" in caplog.text
        assert "half a k" not in caplog.text
        host.files.key.write_bytes(key)
        host.issue("worker-1")
        await until(lambda: host.served != before)
    assert host.changes == 1


async def test_refused_files_are_tried_again_after_a_while(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong may not have been in the files: a clock, or who may read them."""
    monkeypatch.setattr(module, "_RETRY_S", 0)
    async with watching(host) as until:
        host.files.key.write_bytes(b"half a k")
        await until(lambda: (host.count("zkp_tls_reload_failures_total") or 0) >= 3)


def test_another_ones_certificate_is_refused(host: Host) -> None:
    """A process stays who it is."""
    other = host.issue("worker-2")
    for mine, theirs in ((host.files.key, other.key), (host.files.certificate, other.certificate)):
        mine.write_bytes(theirs.read_bytes())
    with pytest.raises(TlsError, match="worker-2"):
        host.certificates.reload()
    assert host.count("zkp_tls_reload_failures_total") == 1


def test_a_reload_without_news_tells_nobody(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP is sent for other reasons too."""
    with caplog.at_level(logging.INFO):
        host.certificates.reload()
    assert host.changes == 0
    assert caplog.text == ""


def test_metrics_show_what_is_in_use_and_when_it_expires(host: Host) -> None:
    """The leaf, its issuing CA and the root; after a reload the new ones; each list, and none where none is."""
    before = host.served
    authority = host.authority
    issuer, root = authority.issuer.certificate, authority.roots[0]
    for kind, serial in (
        ("leaf", before),
        ("issuer", format_serial(issuer.serial_number)),
        ("root", format_serial(root.serial_number)),
    ):
        seconds = host.count("zkp_certificate_expiry_seconds", kind=kind, serial=serial)
        assert seconds is not None
        assert seconds > 0
    host.issue("worker-1")
    host.certificates.reload()
    assert host.count("zkp_certificate_expiry_seconds", kind="leaf", serial=before) is None
    assert host.count("zkp_certificate_expiry_seconds", kind="leaf", serial=host.served)
    assert host.count("zkp_tls_reloads_total") == 1
    serial = format_serial(issuer.serial_number)
    assert host.count("zkp_crl_expiry_seconds", serial=serial) is None
    host.authority = replace(authority, crls=(authority.crl((), number=1, now=NOW),))
    host.issue("worker-1")
    host.certificates.reload()
    assert (host.count("zkp_crl_expiry_seconds", serial=serial) or 0) > 0


def test_metrics_count_who_is_revoked(host: Host) -> None:
    """Those of the lists and those that were told."""
    assert host.count("zkp_revoked_certificates") == 0
    host.certificates.material.revoke([1, 2])
    assert host.count("zkp_revoked_certificates") == 2
    assert host.count("zkp_tls_refused_total", reason="revoked") == 0
