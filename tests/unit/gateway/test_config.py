"""A gateway's configuration, found right or wrong before it listens."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import PREFIX, GatewaySettings, check
from pki.ca.authority import Authority
from pki.x509.identity import Role
from zkp.daemon.settings import SettingsError
from zkp.daemon.settings.schema import leaves, variables

NOW = datetime.now(UTC)
AUTHORITY = Authority.create("zkp.local", now=NOW)
TEXT = """\
id: gateway-1
bind: 127.0.0.1:8443
coordinators: ['127.0.0.1:9001', '127.0.0.1:9002']
api_keys_file: api-keys
tls:
  certificate: gateway-1/certificate.pem
  key: gateway-1/key.pem
  ca: gateway-1/ca.pem
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A valid configuration with its files."""
    AUTHORITY.issue("gateway-1", Role.GATEWAY, ["127.0.0.1"], now=NOW).write(tmp_path)
    keys = tmp_path / "api-keys"
    keys.write_text(f"# made by hand\nalice:{hashlib.sha256(b'key').hexdigest()}\n")
    keys.chmod(0o600)
    (tmp_path / "gateway.yaml").write_text(TEXT)
    return tmp_path / "gateway.yaml"


def refusal(path: Path, environ: Mapping[str, str] | None = None) -> str:
    """The one line of a refusal."""
    with pytest.raises(SettingsError) as caught:
        check(path, environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_configuration_is_accepted(path: Path) -> None:
    """Limits have their stated defaults, and each can be set from the environment."""
    settings = check(path, {})
    assert (settings.rate.per_second, settings.rate.burst) == (10.0, 20)
    assert settings.max_body == 6_000_000
    assert str(settings.metrics.bind) == "0.0.0.0:9093"
    changed = check(path, {"GATEWAY_RATE_PER_SECOND": "0.5", "GATEWAY_MAX_BODY": "7MB"})
    assert changed.rate.per_second == 0.5
    assert changed.max_body == 7_000_000


def test_every_key_has_its_own_variable_and_a_description() -> None:
    """Keys have distinct variables, and each key has a description."""
    assert variables(GatewaySettings, PREFIX)["GATEWAY_API_KEYS_FILE"].key == "api_keys_file"
    assert all(leaf.field.description for leaf in leaves(GatewaySettings))


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o601, 0o620])
def test_the_key_file_must_not_be_accessible_to_others(path: Path, mode: int) -> None:
    """Others may not read the keys' hashes, and the group may not write them."""
    (path.parent / "api-keys").chmod(mode)
    line = refusal(path)
    assert line.startswith(
        f"{path}:4: api_keys_file: {path.parent / 'api-keys'} is accessible to other users (mode {mode:04o})"
    )
    assert "chmod 600 it, or 640" in line


def test_an_invalid_key_file_is_named_and_not_shown(path: Path) -> None:
    """A line that is no hash may be the key itself."""
    (path.parent / "api-keys").write_text("alice:hunter2\n")
    line = refusal(path)
    assert "api_keys_file: " in line
    assert "line 1" in line
    assert "hunter2" not in line
    (path.parent / "api-keys").unlink()
    assert f"api_keys_file: {path.parent / 'api-keys'}" in refusal(path)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"GATEWAY_METRICS_BIND": "0.0.0.0:8443"}, "conflicts with bind 127.0.0.1:8443; give each its own port"),
        ({"GATEWAY_RATE_BURST": "0"}, "rate.burst (set by GATEWAY_RATE_BURST): must be at least 1 and at most"),
        ({"GATEWAY_RATE_PER_SECOND": "nan"}, "rate.per_second (set by GATEWAY_RATE_PER_SECOND): must be a finite"),
        ({"GATEWAY_MAX_BODY": "5 XB"}, "is not a number with a known unit; write a size such as 5MB or 2GiB"),
        ({"GATEWAY_ID": "gateway-2"}, "and this is spiffe://zkp.local/gateway/gateway-2; name the certificate"),
        ({"GATEWAY_MAXBODY": "1"}, "did you mean GATEWAY_MAX_BODY?"),
    ],
)
def test_errors_are_one_line_with_key_and_remedy(path: Path, environ: dict[str, str], said: str) -> None:
    """Each is found before the gateway listens."""
    assert said in refusal(path, environ)
