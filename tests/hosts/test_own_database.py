"""A PostgreSQL that somebody else installs and configures: it is checked, used, and not touched."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.conftest import SPARE
from tests.hosts.deployment import EXAMPLE, HOSTS, Deployment
from tests.hosts.host import Host
from tests.integration.cluster.network import eventually

_PASSWORD = "correct-battery-staple"
_CERTIFICATE = "/etc/postgresql/15/main/server.crt"
_ROOT = "/etc/zkp/database-root.pem"
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
RULE
END
systemctl restart postgresql@15-main
"""
_DATABASE = f"""
CREATE ROLE zkp LOGIN PASSWORD '{_PASSWORD}';
CREATE DATABASE zkp OWNER zkp ENCODING 'UTF8' TEMPLATE template0;
"""


@pytest.fixture
def server(network: Deployment) -> Iterator[Host]:
    """A host with a database of the operator's own making, in the group database of the inventory."""
    host = network.fleet.host(SPARE)
    host.run(_INSTALL.replace("ADDRESS", host.address).replace("RULE", "host zkp zkp 0.0.0.0/0 scram-sha-256"))
    script = host.root / "root/database.sql"  # not in a command: sudo writes these into the journal
    script.touch(0o600)
    script.write_text(_DATABASE)
    host.run("cd / && runuser -u postgres -- psql --quiet --set ON_ERROR_STOP=1 < /root/database.sql")
    for name in HOSTS:
        (network.members[name].root / _ROOT.removeprefix("/")).write_text(host.run(f"cat {_CERTIFICATE}"))
    network.example = inventory(network.directory / "own-database")
    yield host
    network.example = EXAMPLE
    network.play().demand_success()


def inventory(place: Path) -> Path:
    """The example, with the database on a host of its own."""
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("0*"))
    for link in EXAMPLE.glob("0*"):
        (place / link.name).symlink_to(link.resolve())
    text = (EXAMPLE / "hosts.yml").read_text("utf-8")
    (place / "hosts.yml").write_text(
        text.replace("database: {hosts: {host-1: {}}}", f"database: {{hosts: {{{SPARE}: {{}}}}}}")
    )
    return place


@pytest.mark.slow
def test_a_database_of_ones_own_is_checked_and_used_and_left_alone(network: Deployment, server: Host) -> None:
    """It is refused while it takes plain text; after that the record is kept there, and it is as it was."""
    variables: dict[str, Any] = {
        "postgres_existing": True,
        "coordinator_database_root_cert": _ROOT,
        "coordinator_database_client_certificate": False,
        "coordinator_database_password": _PASSWORD,
    }
    reach = network.fleet.reach([SPARE])

    refused = network.play("site.yml", "--tags", "postgres", change=reach, **variables)
    assert refused.status != 0
    assert "write hostssl" in refused.refusals

    server.run("sed -i 's/^host /hostssl /' /etc/postgresql/15/main/pg_hba.conf; systemctl reload postgresql@15-main")
    before = server.run(_FILES)
    network.play(change=reach, **variables).demand_success()

    network.wait_until_well()
    task = network.prove()
    found = "cd / && runuser -u postgres -- psql --dbname zkp -Atc \"SELECT id FROM tasks WHERE state = 'completed'\""
    eventually("the task in the record", lambda: task["id"] in server.run(found).split())
    assert server.run(_FILES) == before
