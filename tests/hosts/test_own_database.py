"""A PostgreSQL that somebody else installs and configures: it is checked, used, and not touched."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.deployment import EXAMPLE, HOSTS, Deployment
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.hosts.host import Host
from tests.integration.cluster.network import eventually

_HOST = "own"
_GROUP = "database: {hosts: {host-1: {}}}"
_PASSWORD = "correct-battery-staple"
_CERTIFICATE = "/etc/postgresql/15/main/server.crt"
_ROOT = "/etc/ssl/certs/own-database.pem"
_FILES = "cat /etc/postgresql/15/main/*.conf; ls -l /etc/postgresql/15/main"

_INSTALL = f"""
set -eu
cd /
DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends postgresql-15 >/dev/null 2>&1
cd /etc/postgresql/15/main
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 30 -subj /CN=database \
  -addext subjectAltName=IP:ADDRESS -keyout server.key -out {_CERTIFICATE} 2>/dev/null
chown postgres server.key {_CERTIFICATE}
cat > conf.d/tls.conf <<END
listen_addresses = '*'
ssl_cert_file = '{_CERTIFICATE}'
ssl_key_file = '/etc/postgresql/15/main/server.key'
END
cat > pg_hba.conf <<END
local all postgres peer
host zkp zkp 0.0.0.0/0 scram-sha-256
END
systemctl restart postgresql@15-main
"""
_DATABASE = f"""
CREATE ROLE zkp LOGIN PASSWORD '{_PASSWORD}';
CREATE DATABASE zkp OWNER zkp ENCODING 'UTF8' TEMPLATE template0;
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A second fleet: the three hosts of the inventory, and one with a database of the operator's own making."""
    try:
        fleet = Fleet.create(f"database-{os.getpid()}", [*HOSTS, _HOST])
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        made = Deployment(fleet, tmp_path / "controller")
        made.example = inventory(tmp_path / "named", f"database: {{hosts: {{{_HOST}: {{}}}}}}")
        yield made
    finally:
        fleet.destroy()


def inventory(place: Path, group: str) -> Path:
    """The example, with this instead of its group database."""
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("0*"))
    for link in EXAMPLE.glob("0*"):
        (place / link.name).symlink_to(link.resolve())
    hosts = (EXAMPLE / "hosts.yml").read_text("utf-8")
    assert _GROUP in hosts
    (place / "hosts.yml").write_text(hosts.replace(_GROUP, group))
    return place


def install(deployment: Deployment) -> Host:
    """Somebody's own PostgreSQL; its certificate is what the coordinators trust, and it takes plain text."""
    server = deployment.fleet.host(_HOST)
    server.run(_INSTALL.replace("ADDRESS", server.address))
    script = server.root / "root/database.sql"  # not in a command: sudo writes these into the journal
    script.touch(0o600)
    script.write_text(_DATABASE)
    server.run("cd / && runuser -u postgres -- psql --quiet --set ON_ERROR_STOP=1 < /root/database.sql")
    certificate = server.run(f"cat {_CERTIFICATE}")
    for name in HOSTS:
        (deployment.members[name].root / _ROOT.removeprefix("/")).write_text(certificate)
    return server


@pytest.mark.slow
def test_a_database_of_ones_own_is_checked_and_used_and_left_alone(deployment: Deployment) -> None:
    """It is refused while it takes plain text; after that the record is kept there, and it is as it was.

    The playbooks may know the host that it runs on, or no more than an address: both are one network.
    """
    server, reach = install(deployment), deployment.fleet.reach([_HOST])
    deployment.variables |= {
        "postgres_existing": True,
        "coordinator_database_root_cert": _ROOT,
        "coordinator_database_client_certificate": False,
        "coordinator_database_password": _PASSWORD,
    }

    refused = deployment.play("site.yml", "--tags", "postgres", change=reach)
    assert refused.status != 0
    assert "write hostssl" in refused.refusals

    server.run("sed -i 's/^host /hostssl /' /etc/postgresql/15/main/pg_hba.conf; systemctl reload postgresql@15-main")
    before = server.run(_FILES)
    first = deployment.play(change=reach).demand_success()
    assert _PASSWORD not in first.output

    found = "cd / && runuser -u postgres -- psql --dbname zkp -Atc \"SELECT id FROM tasks WHERE state = 'completed'\""
    deployment.wait_until_well()
    task = deployment.prove()
    eventually("the task in the record", lambda: task["id"] in server.run(found).split())
    assert server.run(_FILES) == before
    assert deployment.play(change=reach).demand_success().changed == []
    deployment.play("verify.yml", change=reach).demand_success()

    deployment.example = inventory(deployment.directory / "left-out", "")
    deployment.variables["zkp_database_host"] = server.address
    deployment.play().demand_success()
    task = deployment.prove()
    eventually("the next task in the record", lambda: task["id"] in server.run(found).split())
    assert deployment.play().demand_success().changed == []
    deployment.play("verify.yml").demand_success()
    assert server.run(_FILES) == before
