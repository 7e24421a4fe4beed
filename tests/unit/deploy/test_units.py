"""The systemd units: static, supervised, hardened."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.programs import PROJECT

UNITS = PROJECT / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
DAEMONS = [name for name in SERVICES if name != "zkp-cert-renew.service"]
THRESHOLD = 12  # tenths: the exposure that is allowed, of 10.0


def _settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_which() -> None:
    """Each daemon has its unit, and the renewal a service with a timer."""
    assert DAEMONS == ["zkp-coordinator.service", "zkp-gateway.service", "zkp-worker.service"]
    assert (UNITS / "zkp-cert-renew.timer").is_file()


@pytest.mark.parametrize("name", DAEMONS)
def test_supervised(name: str) -> None:
    """A daemon says when it is ready, is watched, comes back after a failure, and reads again on reload."""
    unit = _settings(name)
    assert unit["Type"] == ["notify"]
    assert "WatchdogSec" in unit
    assert unit["Restart"] == ["always"]
    assert "ExecStopPost" in unit  # the growing pause
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["User"] == ["zkp"]


@pytest.mark.parametrize("name", SERVICES)
def test_static(name: str) -> None:
    """What differs between hosts is in configuration files: a unit is no template."""
    assert "{{" not in (UNITS / name).read_text("utf-8")


@pytest.mark.parametrize("daemon", ["coordinator", "worker", "gateway"])
def test_secrets_apart(daemon: str) -> None:
    """No daemon can open the keys and the data of another on the same host."""
    hidden = _settings(f"zkp-{daemon}.service")["InaccessiblePaths"][0].split()
    others = {"coordinator", "worker", "gateway"} - {daemon}
    assert set(hidden) == {f"-{place}/{other}" for other in others for place in ("/etc/zkp/pki", "/var/lib/zkp")}


def test_coordinators_get_the_processor_first() -> None:
    """What else runs on the host, workers above all, must not keep heartbeats waiting; units have a weight of 100."""
    weights = {name: int(_settings(name).get("CPUWeight", ["100"])[0]) for name in DAEMONS}
    assert weights["zkp-coordinator.service"] >= 10 * weights["zkp-gateway.service"]
    assert weights["zkp-worker.service"] < weights["zkp-gateway.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", SERVICES)
def test_hardened(name: str) -> None:
    """The exposure that systemd computes for a unit is at most 1.2 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager", UNITS / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:] or done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_well_formed(tmp_path: Path) -> None:
    """systemd understands every line of every unit."""
    for unit in UNITS.iterdir():
        text = unit.read_text("utf-8").replace("/opt/zkp/current/bin/", "/usr/bin/env ")
        (tmp_path / unit.name).write_text(text, "utf-8")
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    mentioned = [line for line in done.stderr.splitlines() if "zkp-" in line]
    assert not mentioned
