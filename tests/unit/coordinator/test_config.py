"""A coordinator's configuration: every known mistake is one line with file, key and cure, before it listens."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinator.config.database import DatabaseSettings
from coordinator.config.settings import ALIASES, PREFIX, CoordinatorSettings, check
from pki.ca.authority import Authority
from pki.x509.identity import Role
from zkp.daemon.settings import Address, SettingsError
from zkp.daemon.settings.schema import leaves, variables

NOW = datetime.now(UTC)
AUTHORITY = Authority.create("zkp.local", now=NOW)
PASSWORD = "hunter2"
NOBODY = 65534


@dataclass
class Site:
    """A coordinator's files, all good, ready to be spoilt."""

    root: Path
    document: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.root / "coordinator-1.yaml"

    def change(self, key: str, value: object) -> None:
        """Set a dotted key."""
        *sections, last = key.split(".")
        place = self.document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value

    def check(self, environ: Mapping[str, str] | None = None) -> CoordinatorSettings:
        """What `coordinator check` does."""
        self.path.write_text(yaml.safe_dump(self.document, sort_keys=False))
        return check(self.path, {"DB_PASSWORD": PASSWORD, **(environ or {})})

    def refusal(self, environ: Mapping[str, str] | None = None) -> str:
        """The one line of a refusal. It names the file, and never a secret."""
        with pytest.raises(SettingsError) as caught:
            self.check(environ)
        line = str(caught.value)
        assert "\n" not in line
        assert PASSWORD not in line
        return line

    def issue(self, name: str, role: Role = Role.COORDINATOR, hosts: tuple[str, ...] = ("127.0.0.1",)) -> None:
        """Put another identity in the place of this node's."""
        issued = AUTHORITY.issue(name, role, hosts, now=NOW)
        files = issued.write(self.root / "other", replace=True)
        self.document["tls"] = {
            "certificate": str(files.certificate),
            "key": str(files.key),
            "ca": str(files.ca),
        }


def make_site(root: Path) -> Site:
    """coordinator-1 of three, on this machine."""
    AUTHORITY.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW).write(root)
    (root / "data").mkdir()
    (root / "keys").mkdir()
    peers = [
        {"id": f"coordinator-{n}", "raft": f"127.0.0.1:{7000 + n}", "grpc": f"127.0.0.1:{9000 + n}"}
        for n in (1, 2, 3)
    ]
    document = {
        "node": {"id": "coordinator-1", "data_dir": "data"},
        "raft": {"bind": "127.0.0.1:7001", "advertise": "127.0.0.1:7001", "peers": peers},
        "grpc": {"bind": "127.0.0.1:9001", "advertise": "127.0.0.1:9001"},
        "tls": {
            "certificate": "coordinator-1/certificate.pem",
            "key": "coordinator-1/key.pem",
            "ca": "coordinator-1/ca.pem",
        },
        "database": {"host": "/run/postgresql", "password": "${DB_PASSWORD}"},
        "proofs": {"keys_dir": "keys"},
    }
    return Site(root, document)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A good coordinator's files."""
    return make_site(tmp_path)


@contextmanager
def ordinary_user(root: Path) -> Iterator[None]:
    """Permissions mean nothing to root: give the files to somebody else, and be that for a while."""
    if os.geteuid() != 0:
        yield
        return
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_good_configuration_is_taken(site: Site) -> None:
    """Defaults fill what the file leaves out; paths lie beside the file; the node knows its own entry."""
    settings = site.check()
    assert settings.node.data_dir == site.root / "data"
    assert settings.own_peer.grpc == Address("127.0.0.1", 9001)
    assert settings.raft.bootstrap is False
    assert str(settings.metrics.bind) == "0.0.0.0:9091"
    assert settings.tasks.max_retries == 3
    assert settings.tasks.heartbeat_interval == pytest.approx(10 / 3)


def test_every_key_has_its_own_variable_and_a_description() -> None:
    """No two keys share a variable, and each key says what it is."""
    names = variables(CoordinatorSettings, PREFIX)
    assert names["COORDINATOR_DATABASE_MAX_OPEN_CONNS"].key == "database.max_open_conns"
    assert all(leaf.field.description or leaf.key.startswith("tls.") for leaf in leaves(CoordinatorSettings))
    assert set(ALIASES.values()) <= {leaf.key for leaf in names.values()}


def test_environment_overrides(site: Site) -> None:
    """What the first system could not set from the environment can be set here: bootstrap, and all else."""
    settings = site.check(
        {
            "COORDINATOR_RAFT_BOOTSTRAP": "true",
            "COORDINATOR_DATABASE_HOST": "/tmp",
            "COORDINATOR_DATABASE_MAX_OPEN_CONNS": "25",
            "COORDINATOR_TASKS_LEASE": "3s",
            "WORKER_ID": "not-mine",
        }
    )
    assert settings.raft.bootstrap is True
    assert settings.database.host == "/tmp"
    assert settings.database.max_open_conns == 25
    assert settings.tasks.heartbeat_interval == 1.0


def test_a_wildcard_cannot_be_advertised(site: Site) -> None:
    """Neither for Raft nor for gRPC, nor for any peer."""
    for key in ("raft.advertise", "grpc.advertise"):
        before = site.document[key.partition(".")[0]]["advertise"]
        site.change(key, "0.0.0.0:7001")
        line = site.refusal()
        assert f"{key}: 0.0.0.0:7001 is a wildcard, to which peers cannot connect; give the address" in line
        assert line.startswith(f"{site.path}:")
        site.change(key, before)
    site.document["raft"]["peers"][1]["raft"] = "[::]:7002"
    assert "raft.peers[1].raft: [::]:7002 is a wildcard" in site.refusal()


@pytest.mark.parametrize(("inner", "noun"), [("id", "id"), ("raft", "Raft address"), ("grpc", "gRPC address")])
def test_two_peers_cannot_share_an_id_or_address(site: Site, inner: str, noun: str) -> None:
    """The later of the two is named, with what it repeats."""
    peers = site.document["raft"]["peers"]
    peers[2][inner] = peers[1][inner]
    line = site.refusal()
    assert f"raft.peers[2].{inner}: {peers[1][inner]} is also the {noun} of peers[1]" in line
    assert f"give each its own {noun}" in line


def test_this_node_must_be_among_its_peers(site: Site) -> None:
    """Its id must be listed, and both advertised addresses must be what the list says."""
    line = site.refusal({"COORDINATOR_NODE_ID": "coordinator-9"})
    assert "node.id (set by COORDINATOR_NODE_ID): coordinator-9 is not among raft.peers; use one of" in line
    for section, port in (("raft", 7009), ("grpc", 9009)):
        line = site.refusal({f"COORDINATOR_{section.upper()}_ADVERTISE": f"127.0.0.1:{port}"})
        assert f"127.0.0.1:{port} is not what raft.peers[0].{section} says" in line


def test_heartbeat_must_be_well_below_the_election_timeout(site: Site) -> None:
    """Four heartbeats must fit; exactly four do."""
    site.change("raft.heartbeat", "100ms")
    line = site.refusal()
    assert "raft.heartbeat: 100ms is not well below raft.election_timeout (250ms); lower it to 62.5ms" in line
    for beat, timeout in (("50ms", "200ms"), ("37.5ms", "150ms"), ("30ms", "120ms")):
        site.change("raft.heartbeat", beat)
        site.change("raft.election_timeout", timeout)
        assert site.check().raft.election_timeout < 1


def test_listening_addresses_must_not_clash(site: Site) -> None:
    """The same port twice is refused, also when one of the two is a wildcard; different hosts may share it."""
    site.change("health.bind", "0.0.0.0:9001")
    line = site.refusal()
    assert "health.bind: 0.0.0.0:9001 conflicts with grpc.bind 127.0.0.1:9001; give each its own port" in line
    site.change("health.bind", "127.0.0.2:9001")
    assert site.check().health.bind.port == 9001


def test_a_certificate_for_another_node(site: Site) -> None:
    """Another name, another role, and another network are each refused."""
    for name, role in (("coordinator-2", Role.COORDINATOR), ("coordinator-1", Role.WORKER)):
        site.issue(name, role)
        line = site.refusal()
        assert f"names spiffe://zkp.local/{role}/{name}, and this is spiffe://zkp.local/coordinator/" in line
        assert "tls.certificate: " in line
        assert "name the certificate of coordinator-1, or correct node.id" in line
    site.issue("coordinator-1")
    site.change("node.trust_domain", "other.local")
    assert "and this is spiffe://other.local/coordinator/coordinator-1" in site.refusal()


def test_a_certificate_without_the_advertised_host(site: Site) -> None:
    """Peers would refuse it, so it is refused here, with the command that mends it."""
    site.issue("coordinator-1", hosts=("localhost", "127.0.0.9"))
    line = site.refusal()
    assert "does not cover 127.0.0.1 (raft.advertise); issue it again with --host 127.0.0.1" in line


def test_keys_that_cannot_be_used(site: Site) -> None:
    """A missing key, one that is open to others, and one of another certificate: each by file and key."""
    key = site.root / "coordinator-1" / "key.pem"
    good = key.read_bytes()
    key.chmod(0o644)
    assert f"tls.key: {key} is open to others (mode 0644): chmod 600 it" in site.refusal()
    key.chmod(0o600)
    key.write_bytes(AUTHORITY.issue("x", Role.COORDINATOR, ["127.0.0.1"], now=NOW).key_pem)
    assert f"tls.key: {key} is not the key of" in site.refusal()
    key.write_bytes(good[:40])
    assert f"tls.key: {key} holds no PEM private key" in site.refusal()
    key.unlink()
    assert f"tls.key: {key} is missing: make it with `pki issue`, or correct the path" in site.refusal()
    key.mkdir()
    assert f"tls.key: {key}: Is a directory" in site.refusal()


@pytest.mark.parametrize(
    ("spoilt", "mode", "said"),
    [
        ("coordinator-1/key.pem", 0, "tls.key: {} may not be read by this user: give it to the service's user"),
        ("coordinator-1/ca.pem", 0, "tls.ca: {} may not be read by this user: give it to the service's user"),
        ("data", 0o500, "node.data_dir: {} cannot be written (Permission denied); let this daemon's user write"),
        ("keys", 0, "proofs.keys_dir: {} cannot be read (Permission denied); let this daemon's user read it"),
        ("coordinator-1.yaml", 0, "{}: cannot be read (Permission denied); give a file that this process may read"),
    ],
)
def test_what_this_user_may_not_read_or_write(spoilt: str, mode: int, said: str) -> None:
    """Each is named with its file, its key, and whom to let in."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own belongs to one user alone
        root = Path(directory)
        site = make_site(root)
        site.check()
        (root / spoilt).chmod(mode)
        with ordinary_user(root), pytest.raises(SettingsError) as caught:
            check(site.path, {"DB_PASSWORD": PASSWORD})
        assert said.format(root / spoilt) in str(caught.value)


def test_an_expired_certificate_and_another_authority(site: Site) -> None:
    """Both are refused before anything listens, by the file that is to blame."""
    then = NOW - timedelta(days=60)
    old = Authority.create("zkp.local", now=then)
    old.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=then, life=timedelta(days=1)).write(
        site.root, replace=True
    )
    assert "tls.certificate: " in (line := site.refusal())
    assert "expired" in line
    AUTHORITY.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW).write(site.root, replace=True)
    (site.root / "coordinator-1" / "ca.pem").write_bytes(old.issue("x", Role.CLIENT, now=then).ca_pem)
    assert f"tls.certificate: {site.root / 'coordinator-1' / 'certificate.pem'} (trusted" in site.refusal()


def test_directories_must_be_there_and_writable(site: Site) -> None:
    """A missing directory, a file in its place, and one that takes no files are told apart."""
    site.change("node.data_dir", "nowhere")
    assert f"node.data_dir: {site.root / 'nowhere'} does not exist; create it" in site.refusal()
    site.change("node.data_dir", "coordinator-1/ca.pem")
    assert "ca.pem cannot be written (Not a directory)" in site.refusal()
    site.change("node.data_dir", "/proc")
    assert "node.data_dir: /proc " in site.refusal()
    site.change("node.data_dir", "data")
    site.change("proofs.keys_dir", "nokeys")
    assert f"proofs.keys_dir: {site.root / 'nokeys'} does not exist; create and fill it" in site.refusal()
    assert list((site.root / "data").iterdir()) == []


def test_the_database_must_be_named(site: Site) -> None:
    """There is no default server that a deployment could miss."""
    del site.document["database"]["host"]
    line = site.refusal()
    assert "database.host: is missing; name the server or its socket directory, or set database.url" in line
    del site.document["database"]
    assert "database: is missing" in site.refusal()


@pytest.mark.parametrize("host", ["db.example", "192.168.1.20", "127.0.0.1", "localhost", "::1"])
@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca", "VERIFY-FULL"])
def test_a_network_database_is_verified(site: Site, host: str, mode: str) -> None:
    """Whatever the network address, loopback too, nothing but verify-full is taken."""
    site.change("database.host", host)
    site.change("database.ssl_mode", mode)
    site.change("database.ssl_root_cert", "coordinator-1/ca.pem")
    line = site.refusal()
    assert "database.ssl_mode: would leave the server unchecked on a network connection; set verify" in line


def test_a_network_database_needs_roots(site: Site) -> None:
    """verify-full is the default, and says against what; a client certificate comes with its key."""
    site.change("database.host", "192.168.1.20")
    assert "database.ssl_root_cert: is missing; name the roots" in site.refusal()
    site.change("database.ssl_root_cert", "coordinator-1/ca.pem")
    site.change("database.ssl_cert", "coordinator-1/certificate.pem")
    assert "database.ssl_key: is missing; give ssl_cert and ssl_key together" in site.refusal()
    site.change("database.ssl_key", "coordinator-1/key.pem")
    assert site.check().database.parameters() == {
        "host": "192.168.1.20",
        "port": "5432",
        "dbname": "zkp",
        "user": "zkp",
        "password": PASSWORD,
        "sslmode": "verify-full",
        "sslrootcert": str(site.root / "coordinator-1" / "ca.pem"),
        "sslcert": str(site.root / "coordinator-1" / "certificate.pem"),
        "sslkey": str(site.root / "coordinator-1" / "key.pem"),
        "ssl_min_protocol_version": "TLSv1.3",
        "gssencmode": "disable",
        "connect_timeout": "5",
    }
    (site.root / "db.key").write_text("x")
    (site.root / "db.key").chmod(0o644)
    site.change("database.ssl_key", "db.key")
    assert f"database.ssl_key: {site.root / 'db.key'} is open to others" in site.refusal()
    site.change("database.ssl_root_cert", "no.pem")
    assert f"database.ssl_root_cert: {site.root / 'no.pem'} does not exist" in site.refusal()


def test_the_shared_database_variable(site: Site) -> None:
    """ZKP_DATABASE_URL takes the place of host and port; the coordinator's own variable wins over it."""
    shared = {"ZKP_DATABASE_URL": "postgresql://postgres:@/zkp?host=/tmp/pg"}
    database = site.check(shared).database
    assert database.parameters() == {
        "host": "/tmp/pg",
        "port": "5432",
        "dbname": "zkp",
        "user": "postgres",
        "password": PASSWORD,
        "connect_timeout": "5",
    }
    both = {**shared, "COORDINATOR_DATABASE_URL": "postgresql://own@%2Frun%2Fpg/own"}
    assert site.check(both).database.parameters()["host"] == "/run/pg"


def test_database_urls() -> None:
    """Several hosts, escapes and parameters are read as libpq reads them."""
    url = "postgres://u%40x:p%3A%2F@[::1]:5433,db.example/na%20me?sslmode=verify-full&sslrootcert=%2Froots.pem"
    database = DatabaseSettings.model_validate({"url": url, "password": "unused", "ssl_cert": None})
    parameters = database.parameters()
    assert parameters.pop("password") == "p:/"
    assert parameters == {
        "host": "::1,db.example",
        "port": "5433,5432",
        "dbname": "na me",
        "user": "u@x",
        "sslmode": "verify-full",
        "sslrootcert": "/roots.pem",
        "ssl_min_protocol_version": "TLSv1.3",
        "gssencmode": "disable",
        "connect_timeout": "5",
    }
    assert "p:/" not in repr(database)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "database.url: is not a postgresql:// URL; write postgresql://USER@HOST:PORT/NAME"),
        ("mysql://hunter2@h/d", "database.url: is not a postgresql:// URL; write postgresql://USER@HOST:PORT/NAME"),
        ("postgresql:///d", "database.url: names no host"),
        ("postgresql://u:hunter2@h:x/d", "database.url: has a port that is not a number; write HOST:PORT"),
        ("postgresql://u:hunter2/x@h/d", "database.url: has a port that is not a number; write HOST:PORT"),
        ("postgresql://h/d?sslmode", "database.url: has a parameter without a value"),
        ("postgresql://h b/d", "database.url: cannot be parsed by libpq; write postgresql://USER@HOST:PORT/NAME"),
        ("postgresql://h%20b/d", "database.url: has no valid host name or IP address; write a host name or address"),
        ("postgresql://h/d?foo=bar", "database.url: has the unknown parameter 'foo'; remove it"),
        ("postgresql://h/d?sslmod=verify-full", "has the unknown parameter 'sslmod'; did you mean sslmode?"),
        (
            "postgresql://h/d?sslmode=verify-full&ssl=true",
            "unchecked on a network connection; remove ssl=…, which libpq reads as sslmode=require, and set sslmode",
        ),
        ("postgresql://h/d?ssl=on", "database.url: has the unknown parameter 'ssl'; write sslmode=verify-full"),
        ("postgresql://u:hunter2/x?hunter2@h/d", "database.url: cannot be parsed by libpq"),
        ("postgresql://u:hunter2%zz@h/d", "database.url: cannot be parsed by libpq"),
        (
            "postgresql:///d?host=/run&sslmode=strict",
            "database.url: is refused by libpq: invalid sslmode value; correct",
        ),
        ("postgresql:///d?host=/run&connect_timeout=5s", "has a connect_timeout that is not a whole number"),
        ("postgresql://h/d?hostaddr=db", "database.url: has a hostaddr that is not an IP address"),
        ("postgresql://h:99999/d", "database.url: is refused by libpq: invalid port number; correct"),
        ("postgresql:///d?host=/run&port=1,2", "database.url: is refused by libpq: could not match 2 port numbers"),
        ("postgresql://h/d?service=x", "database.url: names a service file"),
        ("postgresql://u:hunter2@h/d?sslmode=require", "set sslmode=verify-full, or use a Unix socket"),
        ("postgresql://h/d?host=/run&hostaddr=10.0.0.1&sslmode=disable", "database.url: would leave the server"),
        ("postgresql://%2Frun,h/d?sslmode=prefer", "database.url: would leave the server unchecked"),
        ("postgresql://h/d", "database.ssl_root_cert: is missing"),
    ],
)
def test_a_bad_database_url_is_refused_without_being_shown(site: Site, url: str, said: str) -> None:
    """The refusal says what is wrong; the URL, which may hold a password, is not repeated."""
    refusal = site.refusal({"ZKP_DATABASE_URL": url})
    assert said in refusal.replace(" (set by ZKP_DATABASE_URL)", "")
    assert "hunter2" not in refusal


def test_an_unknown_key_and_variable(site: Site) -> None:
    """Both are refused with the nearest known name."""
    line = site.refusal({"COORDINATOR_RAFT_HEARTBEET": "1s"})
    assert line == (
        "environment: COORDINATOR_RAFT_HEARTBEET: unknown variable; did you mean COORDINATOR_RAFT_HEARTBEAT?"
    )
    site.change("raft.election_time", "1s")
    assert "raft.election_time: unknown key; did you mean raft.election_timeout?" in site.refusal()


def test_a_time_limit_below_the_lease_is_refused(site: Site) -> None:
    """A proof that may not outlast the lease makes leases pointless."""
    site.change("tasks.time_limit", "5s")
    assert "tasks.time_limit: is shorter than tasks.lease (10s); raise it" in site.refusal()


def test_secrets_do_not_show(site: Site) -> None:
    """A password from the environment is in no repr of the settings."""
    settings = site.check()
    assert settings.database.password is not None
    assert settings.database.password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings.model_dump())


def test_a_revocation_list_that_is_named_has_to_be_there(site: Site) -> None:
    """Nobody believes in vain that revoked certificates are refused; one that is not named may come later."""
    site.check()
    missing = site.root / "nowhere" / "crl.pem"
    site.change("tls.crl", str(missing))
    assert f"tls.crl: {missing} does not exist" in site.refusal()


def test_a_damaged_revocation_list_is_named(site: Site) -> None:
    """Also the one beside the roots, which is read when it is there."""
    lists = site.root / "coordinator-1" / "crl.pem"
    lists.write_bytes(b"nonsense")
    assert f"tls.crl: {lists}" in site.refusal()


def test_as_many_retries_as_a_submission_may_ask_for(site: Site) -> None:
    """The default can be no more than what anybody may ask for."""
    assert site.check({"COORDINATOR_TASKS_MAX_RETRIES": "10"}).tasks.max_retries == 10
    assert "tasks.max_retries" in site.refusal({"COORDINATOR_TASKS_MAX_RETRIES": "11"})
