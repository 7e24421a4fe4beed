"""The role grafana, with a package that stands in for Grafana's: nothing here says that Grafana likes the files.

Debian has no Grafana. What is shown is what the role does: it installs a package given by path, writes every file so
that the package's user can read it, has the unit run, and finds nothing to do when it is run again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.commands import attempt
from tests.hosts.deployment import Deployment
from tests.hosts.stand_in import grafana

_PASSWORD = "correct-horse-staple"
_ONLY = ("--tags", "grafana")
_PURGE = """
DEBIAN_FRONTEND=noninteractive dpkg --purge grafana >/dev/null
rm -rf /etc/grafana /etc/systemd/system/grafana-server.service.d /var/cache/apt/archives/grafana.deb
deluser --quiet grafana
systemctl daemon-reload
"""


@pytest.fixture
def with_grafana(network: Deployment, tmp_path: Path) -> Iterator[Deployment]:
    """A network whose inventory wants one, from a file."""
    variables = dict(network.variables)
    network.variables |= {
        "grafana_enabled": True,
        "grafana_package": str(grafana.package(tmp_path)),
        "grafana_admin_password": _PASSWORD,
    }
    yield network
    network.variables = variables
    network.members["host-3"].run(f"systemctl disable --quiet --now grafana-server; {_PURGE}")


@pytest.mark.slow
def test_the_role_grafana_installs_a_package_and_provisions_it(with_grafana: Deployment) -> None:
    """A stand-in for Grafana serves with the role's TLS, password, dashboards and data source; again, no change."""
    network = with_grafana
    look = network.play("site.yml", "--check", "--diff", *_ONLY).demand_success()
    assert look.changed
    first = network.play("site.yml", "--diff", *_ONLY).demand_success()
    assert _PASSWORD not in look.output + first.output

    shipped = Path(__file__).parents[2] / "monitoring/grafana/dashboards"
    titles = sorted(json.loads(path.read_text("utf-8"))["title"] for path in shipped.glob("*.json"))
    assert json.loads(asked(network, _PASSWORD)) == {"dashboards": titles, "prometheus": 200}
    assert json.loads(asked(network, "another")) == {}
    assert asked(network, _PASSWORD, "--tls-max", "1.2") == ""

    assert network.play("site.yml", *_ONLY).demand_success().changed == []
    network.play("verify.yml", "--tags", "ports,units,keys").demand_success()


def asked(network: Deployment, password: str, *more: str) -> str:
    """What it answers this machine, which the inventory lets in."""
    host, roots = network.members["host-3"], network.directory / "identities/client/ca.pem"
    url = f"https://{host.address}:3000/"
    user = f'user = "admin:{password}"'
    return attempt("curl", "--silent", "--config", "-", "--cacert", str(roots), *more, url, stdin=user).stdout
