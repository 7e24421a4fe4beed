"""Revocation in a running process: CRLs on disk, serial numbers added at run time, refusal counts."""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pki.ca.authority import Authority, CertifiedKey, create_issuer
from pki.ca.issued import IssuedIdentity
from pki.ca.signing import pem_of, sign_crl
from pki.errors import RejectReason
from pki.tls.material import TlsError, TlsFiles, TlsMaterial, refusal_of
from pki.x509.crl import CrlEntry
from pki.x509.identity import IdentityError, Role
from tests.unit.pki.forgery import HOSTS, authority, bare_context, expired_ca, refused, signed_leaf
from tests.unit.pki.test_tls import handshake

# OpenSSL checks certificates against the real clock, so these are of now
NOW = datetime.now(UTC)
HONEST = authority(NOW)
COORDINATOR = HONEST.issue("coordinator-1", Role.COORDINATOR, HOSTS, now=NOW)
WORKER = HONEST.issue("worker-1", Role.WORKER, HOSTS, now=NOW)
OTHER = HONEST.issue("worker-2", Role.WORKER, HOSTS, now=NOW)


def lists_pem(*revoked: int, now: datetime = NOW, root: bool = False, by: Authority = HONEST) -> bytes:
    """The issuing CA's list, and with `root` the root's beside it, which names the same."""
    revocations = [CrlEntry(serial, now) for serial in revoked]
    made = [by.crl(revocations, number=1, now=now)]
    if root:
        assert by.root is not None
        made.append(sign_crl(by.root, revocations, number=1, now=now, life=timedelta(days=400)))
    return pem_of(*made)


def load(directory: Path, issued: IssuedIdentity, crl: bytes | None = None) -> TlsMaterial:
    """A process's identity, with these lists."""
    return TlsMaterial.load(replace(issued, crl_pem=crl).write(directory))


def crl_of(material: TlsMaterial) -> Path:
    """Where its lists are."""
    assert material.files.crl is not None
    return material.files.crl


def context_of(issued: IssuedIdentity = WORKER) -> dict[str, list[bytes]]:
    """What gRPC says about a connection."""
    leaf, issuing = x509.load_pem_x509_certificates(issued.certificate_pem)
    return {
        "x509_pem_cert": [pem_of(leaf)],
        "x509_pem_cert_chain": [pem_of(issuing)],
        "ssl_tls_version": [b"TLSv1.3"],
    }


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_revoked_peer_fails_the_handshake(tmp_path: Path, root: bool, side: str) -> None:
    """A list on the disk keeps the revoked out, whether they dial or listen; others get through."""
    gone = WORKER if side == "server" else COORDINATOR
    crl = lists_pem(gone.certificate.serial_number, root=root)
    server = load(tmp_path / "s", COORDINATOR, crl if side == "server" else None)
    client = load(tmp_path / "c", WORKER, crl if side == "client" else None)
    with pytest.raises(ssl.SSLError):
        handshake(server.server_context(), client.client_context())
    checking = server if side == "server" else client
    assert checking.statistics.refused[RejectReason.REVOKED] == 1
    if side == "server":
        handshake(server.server_context(), load(tmp_path / "o", OTHER).client_context())


def _list_of_the_expired_ca(by: Authority) -> bytes:
    """Signed while it was valid; out of date by now, as the CA is."""
    return lists_pem(by=by, now=NOW - timedelta(days=40))


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize(
    "lists",
    [
        pytest.param(lambda _: lists_pem(), id="its list is gone"),
        pytest.param(lambda _: lists_pem(root=True), id="its list is gone, the root's is there"),
        pytest.param(lambda by: lists_pem() + _list_of_the_expired_ca(by), id="its list is out of date"),
        pytest.param(
            lambda by: lists_pem(root=True) + _list_of_the_expired_ca(by), id="out of date, with the root's"
        ),
    ],
)
def test_an_expired_issuing_ca_is_called_expired(
    tmp_path: Path, lists: Callable[[Authority], bytes], side: str
) -> None:
    """It is counted and named as an expired certificate, and not as a fault of the revocation lists."""
    assert HONEST.root is not None
    former = replace(HONEST, issuer=create_issuer(HONEST.root, HONEST.scope, now=NOW - timedelta(days=50)))
    checking = load(tmp_path / "checking", COORDINATOR, lists(former))
    leaf = former.issue("coordinator-2", Role.COORDINATOR, HOSTS, now=NOW)
    shown = replace(
        leaf, certificate_pem=pem_of(leaf.certificate, expired_ca(HONEST, former.issuer.certificate, NOW))
    )
    if side == "server":
        ends = checking.server_context(), bare_context(ssl.PROTOCOL_TLS_CLIENT, shown, tmp_path)
    else:
        ends = bare_context(ssl.PROTOCOL_TLS_SERVER, shown, tmp_path), checking.client_context()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"issuing CA .* has expired") as caught:
        handshake(*ends)
    assert refusal_of(caught.value) is RejectReason.EXPIRED
    assert "issuing CA" in caught.value.verify_message
    assert {kind: count for kind, count in checking.statistics.refused.items() if count} == {RejectReason.EXPIRED: 1}


def test_a_list_that_is_missing_or_out_of_date_is_still_called_so(tmp_path: Path) -> None:
    """When the peer's chain is valid, the fault is the list's."""
    assert HONEST.root is not None
    beside = replace(HONEST, issuer=_another_issuer())
    server = load(tmp_path / "s", COORDINATOR, lists_pem())
    client = load(tmp_path / "c", beside.issue("worker-1", Role.WORKER, now=NOW))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(server.server_context(), client.client_context())
    assert refusal_of(caught.value) is RejectReason.CRL


@pytest.mark.parametrize(
    ("codes", "refusal"),
    [
        ((3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44, 54), RejectReason.CRL),
        ((9,), RejectReason.NOT_YET_VALID),
        ((10,), RejectReason.EXPIRED),
        ((23,), RejectReason.REVOKED),
        ((62, 63, 64), RejectReason.WRONG_HOST),
        (
            (1, 2, 4, 6, 7, 13, 14, *range(18, 23), *range(24, 29), 32, 34, 37, 41, 47, 48, 51, 66, 79, 94),
            RejectReason.UNTRUSTED,
        ),
    ],
)
def test_every_verification_result_has_its_refusal(codes: tuple[int, ...], refusal: RejectReason) -> None:
    """Of OpenSSL's results, those about lists are CRL problems and no others, 4 and 6 among them."""
    for code in codes:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_code = code
        assert refusal_of(error) is refusal, code


def test_a_revoked_ca_takes_its_leaves_with_it(tmp_path: Path) -> None:
    """Where the root's list is there too, an issuing CA that it names is refused with all its leaves."""
    beside = replace(HONEST, issuer=_another_issuer())
    assert HONEST.root is not None
    gone = [CrlEntry(HONEST.issuer.certificate.serial_number, NOW)]
    lists = pem_of(
        beside.crl((), number=1, now=NOW),
        HONEST.crl((), number=1, now=NOW),
        sign_crl(HONEST.root, gone, number=2, now=NOW, life=timedelta(days=400)),
    )
    server = load(tmp_path / "s", beside.issue("coordinator-1", Role.COORDINATOR, HOSTS, now=NOW), lists)
    handshake(
        server.server_context(),
        load(tmp_path / "n", beside.issue("worker-1", Role.WORKER, now=NOW)).client_context(),
    )
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        handshake(server.server_context(), load(tmp_path / "c", WORKER).client_context())
    with pytest.raises(IdentityError, match=r"issuing CA .* is revoked"):
        server.check_grpc_peer(context_of(WORKER), NOW)


def _another_issuer() -> CertifiedKey:
    assert HONEST.root is not None
    return create_issuer(HONEST.root, HONEST.scope, now=NOW)


def test_no_file_is_no_list(tmp_path: Path) -> None:
    """A network without revocations has no file, and nobody misses it."""
    server = load(tmp_path / "s", COORDINATOR)
    assert not crl_of(server).exists()
    assert server.crl_seconds_to_expiry() == {}
    assert server.revoked_serials() == frozenset()
    without = TlsMaterial.load(replace(server.files, crl=None))
    assert without.revoked_serials() == frozenset()


@pytest.mark.parametrize(
    ("crl", "reason"),
    [
        (lists_pem(now=NOW - timedelta(days=40)), r"crl\.pem holds a list of .* expired at .*`pki crl`"),
        (lists_pem(by=authority(NOW)), r"crl\.pem holds no list of CN=issuing CA .*`pki bundle`"),
        (b"nothing", r"crl\.pem holds something other"),
        (WORKER.ca_pem, r"crl\.pem holds something other"),
        (lists_pem(COORDINATOR.certificate.serial_number), r"CN=coordinator-1.* is revoked by .*crl\.pem"),
    ],
)
def test_lists_that_do_not_do_are_found_at_the_start(tmp_path: Path, crl: bytes, reason: str) -> None:
    """Expired, foreign, no list at all, or one that names this process: one line with the file and the cure."""
    with pytest.raises(TlsError, match=reason):
        load(tmp_path, COORDINATOR, crl)


def test_a_new_list_is_picked_up_by_a_reload(tmp_path: Path) -> None:
    """A context that was handed out before refuses who is on the new list."""
    server, client = load(tmp_path / "s", COORDINATOR, lists_pem()), load(tmp_path / "c", WORKER)
    context = server.server_context()
    handshake(context, client.client_context())
    crl_of(server).write_bytes(lists_pem(WORKER.certificate.serial_number))
    assert server.reload()
    assert server.revoked_serials() == {WORKER.certificate.serial_number}
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        handshake(context, client.client_context())
    assert server.statistics.reloads == 1
    assert not server.reload()
    assert server.statistics.reloads == 1


def test_a_first_list_is_picked_up_too(tmp_path: Path) -> None:
    """A process that began without lists has them after a reload."""
    server = load(tmp_path / "s", COORDINATOR)
    crl_of(server).write_bytes(lists_pem(7))
    assert server.reload()
    assert server.revoked_serials() == {7}


@pytest.mark.parametrize("breakage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_lists_do_not_get_lost(tmp_path: Path, breakage: Callable[[Path], object]) -> None:
    """A list that disappears or breaks is no reason to forget it: the reload fails, and is counted."""
    server = load(tmp_path, COORDINATOR, lists_pem(7))
    breakage(crl_of(server))
    with pytest.raises(TlsError, match=r"crl\.pem"):
        server.reload()
    assert server.revoked_serials() == {7}
    assert server.statistics.reload_failures == 1


def test_seconds_to_expiry_are_those_of_the_own_chain(tmp_path: Path) -> None:
    """The list of another issuing CA, on its way out, raises no alarm; those of the own one and the root do."""
    assert HONEST.root is not None
    fading = authority(NOW).crl((), number=1, now=NOW, life=timedelta(hours=1))
    files = replace(COORDINATOR, crl_pem=lists_pem(root=True) + pem_of(fading)).write(tmp_path)
    loaded = TlsMaterial.load(files, clock=lambda: NOW)
    lives = {HONEST.issuer: timedelta(days=30), HONEST.root: timedelta(days=400)}
    assert loaded.crl_seconds_to_expiry() == {
        ca.certificate.serial_number: life.total_seconds() - NOW.microsecond / 1e6 for ca, life in lives.items()
    }


@pytest.mark.parametrize("side", ["server", "client"])
def test_what_is_learned_at_run_time_counts_at_once(tmp_path: Path, side: str) -> None:
    """A serial number that came through Raft keeps its holder out of the very next handshake."""
    server, client = load(tmp_path / "s", COORDINATOR), load(tmp_path / "c", WORKER)
    context = server.server_context()
    handshake(context, client.client_context())
    checking, gone = (server, WORKER) if side == "server" else (client, COORDINATOR)
    checking.revoke([gone.certificate.serial_number])
    with pytest.raises(ssl.SSLCertVerificationError, match="is revoked") as caught:
        handshake(context, client.client_context())
    assert refusal_of(caught.value) is RejectReason.REVOKED
    assert caught.value.verify_message == "certificate revoked"
    assert checking.statistics.refused[RejectReason.REVOKED] == 1


def test_what_was_learned_survives_a_reload(tmp_path: Path) -> None:
    """New files, with a list or without, take nothing back that was learned."""
    server = load(tmp_path, COORDINATOR)
    server.revoke([7])
    server.revoke([8])
    crl_of(server).write_bytes(lists_pem(9))
    assert server.reload()
    assert server.revoked_serials() == {7, 8, 9}


def test_a_revoked_peer_is_refused_on_an_open_connection(tmp_path: Path) -> None:
    """Whoever asks at each request refuses the revoked although the handshake was good."""
    server, client = load(tmp_path / "s", COORDINATOR), load(tmp_path / "c", WORKER)
    listening, _ = handshake(server.server_context(), client.client_context())
    assert server.check_peer(listening, NOW).identity == WORKER.identity
    server.revoke([WORKER.certificate.serial_number])
    with pytest.raises(IdentityError, match=r"of spiffe://zkp.local/worker/worker-1 is revoked"):
        server.check_peer(listening, NOW)


def test_a_revoked_caller_is_refused_at_the_next_call(tmp_path: Path) -> None:
    """gRPC knows no revocation, so each call asks: by the list, by what was learned, and by the CA."""
    server = load(tmp_path, COORDINATOR)
    assert server.check_grpc_peer(context_of(), NOW).identity == WORKER.identity
    server.revoke([HONEST.issuer.certificate.serial_number])
    with pytest.raises(IdentityError, match=r"issuing CA .* is revoked"):
        server.check_grpc_peer(context_of(), NOW)
    crl_of(server).write_bytes(lists_pem(OTHER.certificate.serial_number))
    server.reload()
    with pytest.raises(IdentityError, match=r"worker-2 is revoked"):
        server.check_grpc_peer(context_of(OTHER), NOW)


@pytest.mark.parametrize(
    ("context", "later", "refusal"),
    [
        ({}, timedelta(), RejectReason.NO_CERTIFICATE),
        (context_of() | {"ssl_tls_version": [b"TLSv1.2"]}, timedelta(), RejectReason.OLD_TLS),
        (context_of() | {"x509_pem_cert": [b"x"]}, timedelta(), RejectReason.NO_IDENTITY),
        (context_of() | {"x509_pem_cert_chain": [b"x"]}, timedelta(), RejectReason.NO_IDENTITY),
        (context_of(), timedelta(days=31), RejectReason.EXPIRED),
        (context_of(), -timedelta(days=1), RejectReason.NOT_YET_VALID),
        (
            context_of(Authority.create("other.local", now=NOW).issue("worker-1", Role.WORKER, now=NOW)),
            timedelta(),
            RejectReason.WRONG_TRUST_DOMAIN,
        ),
    ],
)
def test_refused_calls_are_counted_by_reason(
    tmp_path: Path, context: dict[str, list[bytes]], later: timedelta, refusal: RejectReason
) -> None:
    """Each reason has its own count, and an admitted call has none."""
    server = load(tmp_path, COORDINATOR)
    server.check_grpc_peer(context_of(), NOW)
    assert not any(server.statistics.refused.values())
    with pytest.raises(IdentityError):
        server.check_grpc_peer(context, NOW + later)
    assert {reason: count for reason, count in server.statistics.refused.items() if count} == {refusal: 1}


BAD = refused(HONEST, NOW, Role.WORKER)


@pytest.mark.parametrize(
    ("case", "refusal"),
    [
        ("wrong CA", RejectReason.UNTRUSTED),
        ("self-signed", RejectReason.UNTRUSTED),
        ("leaf used as a CA", RejectReason.UNTRUSTED),
        ("foreign DNS name", RejectReason.UNTRUSTED),
        ("foreign trust domain", RejectReason.WRONG_TRUST_DOMAIN),
        ("expired", RejectReason.EXPIRED),
        ("not yet valid", RejectReason.NOT_YET_VALID),
    ],
)
def test_refused_handshakes_are_counted_by_reason(tmp_path: Path, case: str, refusal: RejectReason) -> None:
    """OpenSSL's verdict on a bad client ends up under the same reasons."""
    server = load(tmp_path / "s", COORDINATOR)
    files = BAD[case].write(tmp_path / "c")
    with pytest.raises(ssl.SSLError):
        handshake(server.server_context(), _careless(files))
    assert {reason: count for reason, count in server.statistics.refused.items() if count} == {refusal: 1}


def test_a_client_without_certificate_is_counted(tmp_path: Path) -> None:
    """Who shows nothing is told apart from who shows something bad."""
    server = load(tmp_path / "s", COORDINATOR)
    with pytest.raises(ssl.SSLError):
        handshake(server.server_context(), _careless(None))
    assert server.statistics.refused[RejectReason.NO_CERTIFICATE] == 1


def test_a_dialler_counts_the_wrong_host(tmp_path: Path) -> None:
    """Dialling an address that the certificate lacks is counted by whoever dialled."""
    server, client = load(tmp_path / "s", COORDINATOR), load(tmp_path / "c", WORKER)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server.server_context(), client.client_context(), "127.0.0.2")
    assert client.statistics.refused[RejectReason.WRONG_HOST] == 1


def test_a_list_that_lacks_the_peers_ca_is_counted_as_the_lists_fault(tmp_path: Path) -> None:
    """In a rotation without its first step, the refusal points to the list and not to the peer."""
    server = load(tmp_path / "s", COORDINATOR, lists_pem())
    stranger = replace(HONEST, issuer=_another_issuer()).issue("worker-1", Role.WORKER, now=NOW)
    with pytest.raises(ssl.SSLError):
        handshake(server.server_context(), load(tmp_path / "c", stranger).client_context())
    assert server.statistics.refused[RejectReason.CRL] == 1


def test_a_stranger_without_identity_is_left_to_whoever_serves(tmp_path: Path) -> None:
    """The handshake asks for revocation alone; that a certificate names nobody is found when it is used."""
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    nobody = signed_leaf(
        WORKER,
        HONEST.issuer.key,
        HONEST.issuer.key,
        HONEST.issuer.certificate.subject,
        NOW,
        names=names,
    )
    server = load(tmp_path / "s", COORDINATOR)
    listening, _ = handshake(server.server_context(), _careless(nobody.write(tmp_path / "c")))
    with pytest.raises(IdentityError):
        server.check_peer(listening, NOW)
    assert server.statistics.refused[RejectReason.NO_IDENTITY] == 1


def _careless(files: TlsFiles | None) -> ssl.SSLContext:
    """Dials without looking at its own certificate or the peer's name."""
    context = ssl.create_default_context(cadata=WORKER.ca_pem.decode())
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context
