"""Contexts and their reload, with handshakes in memory."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki.ca.authority import Authority
from pki.tls.material import TlsError, TlsFiles, TlsMaterial, peer_certificate, peer_identity
from pki.x509.identity import IdentityError, Role
from tests.unit.pki.forgery import HOSTS, TRUST_DOMAIN, authority, identity

# OpenSSL checks certificates against the real clock, so these are of now
NOW = datetime.now(UTC)
HONEST = authority(NOW)
OTHER = authority(NOW)


def material(directory: Path, name: str, role: Role, by: Authority = HONEST) -> TlsMaterial:
    """An identity on disk, loaded."""
    return TlsMaterial.load(by.issue(name, role, HOSTS, now=NOW).write(directory))


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator."""
    return material(tmp_path, "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker."""
    return material(tmp_path, "worker-1", Role.WORKER)


def handshake(
    listening: ssl.SSLContext, dialling: ssl.SSLContext, host: str = "127.0.0.1"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends (server, client) of a finished handshake, without a socket; raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = listening.wrap_bio(to_server, to_client, server_side=True)
    client = dialling.wrap_bio(to_client, to_server, server_hostname=host)
    ends = [client, server]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return server, client


def replace_files(files: TlsFiles, by: Authority, name: str, role: Role) -> None:
    """What a renewal does."""
    by.issue(name, role, HOSTS, now=NOW).write(files.key.parent.parent, replace=True)


def serial(end: ssl.SSLObject) -> int:
    """The serial number of what the peer shows."""
    return peer_certificate(end).serial


def test_both_ends_know_each_other(server: TlsMaterial, client: TlsMaterial) -> None:
    """A handshake gives each end the other's identity, over TLS 1.3."""
    listening, dialling = handshake(server.server_context(), client.client_context())
    assert peer_identity(listening, TRUST_DOMAIN) == identity()
    assert peer_identity(dialling, TRUST_DOMAIN) == identity(Role.COORDINATOR, "coordinator-1")
    assert listening.version() == "TLSv1.3"


def test_an_identity_of_another_trust_domain_is_refused(server: TlsMaterial, client: TlsMaterial) -> None:
    """Whoever asks for its own trust domain gets no other."""
    listening, _ = handshake(server.server_context(), client.client_context())
    with pytest.raises(IdentityError, match="not of the trust domain"):
        peer_identity(listening, "other.local")


@pytest.mark.parametrize("host", HOSTS)
def test_addresses_and_names_are_verified_alike(server: TlsMaterial, client: TlsMaterial, host: str) -> None:
    """IPv4, IPv6 and DNS names of the certificate can be dialled."""
    _, dialling = handshake(server.server_context(), client.client_context(), host)
    assert peer_identity(dialling, TRUST_DOMAIN).name == "coordinator-1"


@pytest.mark.parametrize("host", ["127.0.0.2", "coordinator-1", "other.zkp.local"])
def test_a_server_under_another_name_is_refused(server: TlsMaterial, client: TlsMaterial, host: str) -> None:
    """The common name counts for nothing, and neither does another address."""
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(server.server_context(), client.client_context(), host)


def test_contexts_are_strict(server: TlsMaterial) -> None:
    """TLS 1.3, verified peers, strict chains, no tickets: on every context that is handed out."""
    for context in (
        server.server_context(),
        server.server_context(require_client=False),
        server.client_context(),
    ):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert server.server_context().verify_mode == ssl.CERT_REQUIRED
    assert server.server_context(require_client=False).verify_mode == ssl.CERT_OPTIONAL
    assert server.client_context().verify_mode == ssl.CERT_REQUIRED
    assert server.client_context().check_hostname


def test_no_session_can_be_resumed(server: TlsMaterial, client: TlsMaterial) -> None:
    """A server hands out no ticket, so a later handshake always shows a certificate."""
    listening, dialling = handshake(server.server_context(), client.client_context())
    listening.write(b"x")  # tickets would come with the first bytes
    assert dialling.read(1) == b"x"
    session = dialling.session
    assert session is None or not session.has_ticket


def test_grpc_is_left_without_tls_1_2(server: TlsMaterial) -> None:
    """Whoever imports this room before dialling with gRPC has restricted it to TLS 1.3."""
    assert os.environ["GRPC_SSL_CIPHER_SUITES"] == "ECDHE-RSA-AES256-GCM-SHA384"


def test_a_reload_serves_and_dials_with_the_new_pair(server: TlsMaterial, client: TlsMaterial) -> None:
    """Contexts that were handed out before serve the new certificate; open connections are left alone."""
    context = server.server_context()
    listening, dialling = handshake(context, client.client_context())
    old = serial(dialling)
    replace_files(server.files, HONEST, "coordinator-1", Role.COORDINATOR)
    assert server.reload()
    _, again = handshake(context, client.client_context())
    assert serial(again) == server.certificate.serial_number != old
    listening.write(b"still here")
    assert dialling.read(20) == b"still here"


def test_a_reload_forgets_old_roots(server: TlsMaterial, client: TlsMaterial, tmp_path: Path) -> None:
    """After a change of root, contexts handed out before refuse a certificate of the old one."""
    required, optional = server.server_context(), server.server_context(require_client=False)
    handshake(required, client.client_context())
    replace_files(server.files, OTHER, "coordinator-1", Role.COORDINATOR)
    server.reload()
    of_old = client.client_context()
    of_old.load_verify_locations(cadata=server.files.ca.read_text())  # trusts the new one, shows the old
    for context in (required, optional):
        with pytest.raises(ssl.SSLError):
            handshake(context, of_old)
    of_new = material(tmp_path / "new", "worker-1", Role.WORKER, OTHER)
    handshake(required, of_new.client_context())


def test_a_reload_of_the_same_files_changes_nothing(server: TlsMaterial) -> None:
    """A reload says whether there was something new."""
    context = server.client_context()
    assert not server.reload()
    assert server.client_context() is context


def test_a_broken_new_pair_is_refused_and_the_old_goes_on(server: TlsMaterial, client: TlsMaterial) -> None:
    """Half a renewal stops nothing."""
    context = server.server_context()
    old = server.certificate
    server.files.certificate.write_bytes(client.files.certificate.read_bytes())
    with pytest.raises(TlsError, match="is not the key of"):
        server.reload()
    assert server.certificate == old
    _, dialling = handshake(context, client.client_context())
    assert serial(dialling) == old.serial_number


def test_a_reload_never_changes_who_one_is(server: TlsMaterial, client: TlsMaterial) -> None:
    """Another node's files are refused by a running process."""
    for path in ("certificate", "key", "ca"):
        getattr(server.files, path).write_bytes(getattr(client.files, path).read_bytes())
    with pytest.raises(TlsError, match=r"names spiffe://zkp.local/worker/worker-1, and this process is"):
        server.reload()
    assert server.identity.name == "coordinator-1"


def test_files_that_change_while_they_are_read_are_read_again(
    server: TlsMaterial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair that is replaced between two reads is never mixed with the old one."""
    real = ssl.SSLContext.load_cert_chain
    renewals = [True]

    def load_cert_chain(self: ssl.SSLContext, certificate: Path, key: Path) -> None:
        if renewals:
            renewals.pop()
            replace_files(server.files, HONEST, "coordinator-1", Role.COORDINATOR)
        real(self, certificate, key)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load_cert_chain)
    server.reload()
    _, dialling = handshake(server.server_context(), server.client_context())
    assert serial(dialling) == server.certificate.serial_number


def test_seconds_to_expiry_follow_the_clock(tmp_path: Path) -> None:
    """The remaining life is that of the leaf, and falls below zero."""
    clock = [NOW]
    issued = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    loaded = TlsMaterial.load(issued.write(tmp_path), clock=lambda: clock[0])
    end = loaded.certificate.not_valid_after_utc
    assert loaded.seconds_to_expiry() == (end - NOW).total_seconds()
    clock[0] = end + timedelta(seconds=5)
    assert loaded.seconds_to_expiry() == -5
    with pytest.raises(TlsError, match="expired"):
        loaded.reload()


def test_no_repr_shows_a_key(server: TlsMaterial) -> None:
    """A material can be logged."""
    assert repr(server).startswith("TlsMaterial(spiffe://zkp.local/coordinator/coordinator-1")
    assert "PRIVATE" not in repr(vars(server))


def test_a_client_may_be_optional(server: TlsMaterial) -> None:
    """The gateway's context lets in who shows no certificate, and says that there is none."""
    bare = ssl.create_default_context(cafile=str(server.files.ca))
    listening, _ = handshake(server.server_context(require_client=False), bare)
    with pytest.raises(IdentityError, match="no client certificate"):
        peer_identity(listening, TRUST_DOMAIN)
    with pytest.raises(ssl.SSLError):
        handshake(server.server_context(), bare)
