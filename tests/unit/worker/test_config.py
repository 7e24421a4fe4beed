"""A worker's configuration, found right or wrong before it connects."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pki.ca.authority import Authority
from pki.x509.identity import Role
from worker.config import PREFIX, WorkerSettings, check
from zkp.daemon.settings import Address, SettingsError
from zkp.daemon.settings.schema import leaves, variables

NOW = datetime.now(UTC)
AUTHORITY = Authority.create("zkp.local", now=NOW)
TEXT = """\
id: worker-1
coordinators: ['127.0.0.1:9001', '127.0.0.1:9002', '127.0.0.1:9003']
keys_dir: keys
data_dir: data
tls:
  certificate: worker-1/certificate.pem
  key: worker-1/key.pem
  ca: worker-1/ca.pem
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A valid configuration with its files."""
    AUTHORITY.issue("worker-1", Role.WORKER, ["127.0.0.1"], now=NOW).write(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "worker.yaml").write_text(TEXT)
    return tmp_path / "worker.yaml"


def refusal(path: Path, environ: Mapping[str, str]) -> str:
    """The one line of a refusal."""
    with pytest.raises(SettingsError) as caught:
        check(path, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_configuration_is_accepted(path: Path) -> None:
    """Defaults fill what the file leaves out; the environment overrides, lists as YAML."""
    settings = check(path, {"WORKER_COORDINATORS": "[10.0.0.1:9090]", "WORKER_MEMORY_LIMIT": "1GiB"})
    assert settings.coordinators == (Address("10.0.0.1", 9090),)
    assert settings.memory_limit == 2**30
    assert str(settings.metrics.bind) == "0.0.0.0:9092"
    assert settings.drain_timeout == 30.0


def test_one_core_is_left_for_everything_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default there is a proof for each core but one, and at least one."""
    for cores, proofs in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert check(path, {}).max_concurrent_tasks == proofs


def test_every_key_has_its_own_variable_and_a_description() -> None:
    """Keys have distinct variables, and each key has a description."""
    assert variables(WorkerSettings, PREFIX)["WORKER_MAX_CONCURRENT_TASKS"].key == "max_concurrent_tasks"
    assert all(leaf.field.description for leaf in leaves(WorkerSettings))


@pytest.mark.parametrize("value", ["-1", "0", "1025"])
def test_every_value_out_of_range_is_refused_with_the_same_range(path: Path, value: str) -> None:
    """Below zero, at zero and above the maximum: the error states both bounds, which do not depend on the value."""
    with pytest.raises(SettingsError, match=r"max_concurrent_tasks .*: must be at least 1 and at most 1024; give"):
        check(path, {"WORKER_MAX_CONCURRENT_TASKS": value})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WORKER_COORDINATORS": "[]"}, "coordinators (set by WORKER_COORDINATORS): must not be empty"),
        ({"WORKER_COORDINATORS": "10.0.0.1:9090"}, "must be a list; give for example ['192.168.1.10:9090'"),
        ({"WORKER_COORDINATORS": "['0.0.0.0:9090']"}, "coordinators[0] (set by WORKER_COORDINATORS): 0.0.0.0"),
        ({"WORKER_COORDINATORS": "[a:1, a:1]"}, "a:1 is also the address of coordinators[0]"),
        ({"WORKER_MEMORY_LIMIT": "2"}, "memory_limit (set by WORKER_MEMORY_LIMIT): must be at least 128000000"),
        ({"WORKER_MAX_TASKS": "2"}, "unknown variable; did you mean WORKER_MAX_CONCURRENT_TASKS?"),
        ({"WORKER_ID": "worker-2"}, "names spiffe://zkp.local/worker/worker-1, and this is spiffe://zkp.local/"),
        ({"WORKER_KEYS_DIR": "none"}, "keys_dir (set by WORKER_KEYS_DIR): "),
        ({"WORKER_DATA_DIR": "none"}, "data_dir (set by WORKER_DATA_DIR): "),
        ({"WORKER_TLS_KEY": "none"}, "none is missing: make it with `pki issue`"),
    ],
)
def test_errors_are_one_line_with_key_and_remedy(path: Path, environ: dict[str, str], said: str) -> None:
    """Each is found before the worker connects to anything."""
    assert said in refusal(path, environ)


def test_a_coordinators_certificate_does_not_make_a_worker(path: Path) -> None:
    """The role counts, not the name alone."""
    AUTHORITY.issue("worker-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW).write(path.parent, replace=True)
    assert "names spiffe://zkp.local/coordinator/worker-1" in refusal(path, {})
