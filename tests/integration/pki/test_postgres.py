"""A real PostgreSQL and its client library with our certificates and revocation lists."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pki.files import TlsFiles
from pki.x509.identity import Role
from tests.integration.pki.authorities import TRUST_DOMAIN, Place
from tests.integration.postgres import SystemServer, system_binaries

pytestmark = pytest.mark.skipif(
    system_binaries() is None, reason="needs Debian's package postgresql: apt-get install postgresql"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An authority with a bundle handed out."""
    place = Place.make(tmp_path_factory.mktemp("authority"))
    place.hand_out()
    return place


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[SystemServer]:
    """A server that looks at revocation lists, for clients with a coordinator's certificate."""
    files = place.issue("postgres-1", Role.POSTGRES)
    parts = (files.certificate.read_bytes(), files.key.read_bytes(), place.ca.read_bytes())
    server = SystemServer(*parts, TRUST_DOMAIN)
    with _superuser(server) as connection:
        connection.execute("CREATE ROLE zkp LOGIN")
    _look_at_lists(server, place)
    yield server
    server.close()


def _superuser(server: SystemServer) -> "psycopg.Connection[tuple[Any, ...]]":
    keywords: dict[str, Any] = dict(server.parameters())
    return psycopg.connect(**keywords, autocommit=True)


def _look_at_lists(server: SystemServer, place: Place) -> None:
    """Give the server the roots and lists that were handed out last, and have it read them."""
    data = Path(server.parameters()["host"])  # the socket lies in the data directory
    for name, source in (("ca.crt", place.ca), ("crl.pem", place.crl)):
        (data / name).write_bytes(source.read_bytes())
        (data / name).chmod(0o644)
    with _superuser(server) as connection:
        connection.execute("ALTER SYSTEM SET ssl_crl_file = 'crl.pem'")
        connection.execute("SELECT pg_reload_conf()")
    with _superuser(server) as connection:  # a new session, begun after the reload
        shown = connection.execute("SHOW ssl_crl_file").fetchone()
    assert shown == ("crl.pem",)


def _query(server: SystemServer, place: Place, files: TlsFiles, **more: str) -> str:
    """Who PostgreSQL says that the client is; raises `psycopg.OperationalError`."""
    keywords: dict[str, Any] = {
        **server.tcp_parameters("postgres"),
        "sslmode": "verify-full",
        "sslrootcert": str(place.ca),
        "sslcert": str(files.certificate),
        "sslkey": str(files.key),
        "sslcrl": str(place.crl),
        **more,
    }
    with psycopg.connect(**keywords) as connection:
        row = connection.execute(
            "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl AND version = 'TLSv1.3'"
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_both_ends_verify_each_other_with_lists(server: SystemServer, place: Place) -> None:
    """verify-full over TLS 1.3 with a client certificate works while both look at revocation lists."""
    files = place.issue("coordinator-1", Role.COORDINATOR)
    assert _query(server, place, files) == "/O=zkp.local/OU=coordinator/CN=coordinator-1"


def test_the_wrong_role_wrong_ca_and_no_certificate_are_refused(server: SystemServer, place: Place) -> None:
    """What the server's mapping leaves out does not get in, and neither does a stranger."""
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        _query(server, place, place.issue("worker-1", Role.WORKER))
    stranger = Place.make(place.path / "stranger").issue("coordinator-1", Role.COORDINATOR)
    with pytest.raises(psycopg.OperationalError, match="unknown ca"):
        _query(server, place, stranger)
    with pytest.raises(psycopg.OperationalError, match=r"requires a valid client certificate|certificate required"):
        _query(server, place, stranger, sslcert="/nowhere", sslkey="/nowhere")


def test_a_server_under_another_address_is_not_believed(server: SystemServer, place: Place) -> None:
    """The address dialled has to be in the certificate."""
    files = place.issue("coordinator-2", Role.COORDINATOR)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        _query(server, place, files, host="other.zkp.local", hostaddr="127.0.0.1")


def test_a_revoked_client_is_refused(server: SystemServer, place: Place) -> None:
    """After the lists were handed out and read, the revoked one is out and the others are not."""
    gone, other = (place.issue(f"coordinator-{number}", Role.COORDINATOR) for number in (7, 8))
    assert _query(server, place, gone)
    place.revoke("coordinator-7")
    place.hand_out()
    _look_at_lists(server, place)
    with pytest.raises(psycopg.OperationalError, match="revoked"):
        _query(server, place, gone)
    assert _query(server, place, other)


def test_a_rotation_of_the_issuing_ca_cuts_nobody_off(server: SystemServer, place: Place) -> None:
    """With the first step's bundle the server accepts old and new leaves; after the last one, new ones alone."""
    files = place.issue("coordinator-9", Role.COORDINATOR)
    kept = place.path / "kept"
    kept.mkdir()
    for name in ("certificate.pem", "key.pem"):
        (kept / name).write_bytes((files.certificate.parent / name).read_bytes())
        (kept / name).chmod(0o600)
    old = TlsFiles.in_directory(kept)
    place.prepare(root=False)
    place.hand_out()
    _look_at_lists(server, place)
    place.switch()
    place.renew("coordinator-9")
    assert _query(server, place, files)
    assert _query(server, place, old)
    for name in place.store.due(datetime.now(UTC)):
        place.renew(name)
    place.finish(root=False)
    place.hand_out()
    _look_at_lists(server, place)
    assert _query(server, place, files, sslcrl="")
    with pytest.raises(psycopg.OperationalError, match="revoked"):
        _query(server, place, old, sslcrl="")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        _query(server, place, files)  # for the server still shows its old certificate
