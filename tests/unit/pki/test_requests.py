"""CSRs: what a request may contain and what is signed for it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority
from pki.ca.csr import SigningRequest, create_request
from pki.ca.profiles import PROFILES
from pki.errors import AuthorityError, IdentityError, PkiError, RequestError, StoreError
from pki.files import TlsFiles
from pki.store.ledger import LedgerEvent
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.credential import Credential
from pki.x509.crl import Reason
from pki.x509.identity import Role, identity_of
from tests.unit.pki.forgery import identity

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ASKED = create_request("worker-1", ["127.0.0.1", "Node1.zkp.local"])
ORDER = CertificateSpec("worker-1", Role.WORKER, ("127.0.0.1", "node1.zkp.local"))
AUTHORITY = Authority.create("zkp.local", now=NOW)
_DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=100)


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority."""
    return AuthorityStore.create(tmp_path / "ca", AUTHORITY, passphrase=None, now=NOW, by="ann@ca")


def _request(
    key: CertificateIssuerPrivateKeyTypes, *names: x509.GeneralName, common_names: tuple[str, ...] = ("worker-1",)
) -> x509.CertificateSigningRequestBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder


def _pem(builder: x509.CertificateSigningRequestBuilder, key: CertificateIssuerPrivateKeyTypes) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def test_a_key_stays_where_it_was_made(store: AuthorityStore, tmp_path: Path) -> None:
    """The certificate of a request goes beside the key that only its host has, and a daemon loads the two."""
    place = tmp_path / "host" / "worker-1"
    place.mkdir(parents=True)
    (place / "key.pem").write_bytes(ASKED.key_pem)
    (place / "key.pem").chmod(0o600)
    store.sign(SigningRequest.read(ASKED.request_pem), ORDER, tmp_path / "host", now=NOW, by="ann@ca")
    credential = Credential.read(TlsFiles.in_directory(place), NOW)
    assert credential.identity == identity()
    assert credential.key_pem == ASKED.key_pem
    assert store.records()[-1].event is LedgerEvent.SIGNED


def test_without_its_key_a_certificate_still_leaves(store: AuthorityStore, tmp_path: Path) -> None:
    """At the authority everything but the key is written."""
    store.sign(SigningRequest.read(ASKED.request_pem), ORDER, tmp_path / "out", now=NOW, by="ann@ca")
    names = sorted(path.name for path in (tmp_path / "out" / "worker-1").iterdir())
    assert names == ["ca.pem", "certificate.pem", "crl.pem"]


def test_anothers_key_is_left_alone(store: AuthorityStore, tmp_path: Path) -> None:
    """Where the key of another certificate lies nothing is written, and nothing is signed."""
    store.issue([ORDER], tmp_path, now=NOW, by="ann@ca")
    before = (tmp_path / "worker-1" / "certificate.pem").read_bytes()
    with pytest.raises(StoreError, match=r"key\.pem is not the key that was certified: .*--out"):
        store.sign(SigningRequest.read(ASKED.request_pem), ORDER, tmp_path, now=NOW, by="ann@ca")
    assert (tmp_path / "worker-1" / "certificate.pem").read_bytes() == before
    assert store.records()[-1].event is LedgerEvent.ISSUED


def test_whatever_else_is_asked_for_is_ignored(store: AuthorityStore, tmp_path: Path) -> None:
    """A request to be a CA for every purpose gets its role's profile."""
    key = ec.generate_private_key(ec.SECP384R1())
    greedy = (
        _request(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=5), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
        .add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"challenge")
    )
    request = SigningRequest.read(_pem(greedy, key))
    leaf = store.sign(request, CertificateSpec("worker-1", Role.WORKER), tmp_path, now=NOW, by="ann@ca").certificate
    stated = {type(extension.value): extension.value for extension in leaf.extensions}
    assert stated[x509.BasicConstraints] == x509.BasicConstraints(ca=False, path_length=None)
    assert tuple(stated[x509.ExtendedKeyUsage]) == PROFILES[Role.WORKER].usages
    assert identity_of(leaf) == identity()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (CertificateSpec("worker-2", Role.WORKER, ORDER.hosts), "asks for worker-1, not for worker-2"),
        (
            CertificateSpec("worker-1", Role.WORKER, ("127.0.0.1",)),
            r"asks for host node1\.zkp\.local: give the same --host",
        ),
        (CertificateSpec("worker-1", Role.WORKER, (*ORDER.hosts, "::1")), "does not ask for host ::1"),
    ],
)
def test_name_and_hosts_have_to_agree(
    store: AuthorityStore, tmp_path: Path, order: CertificateSpec, reason: str
) -> None:
    """Whoever signs gives exactly what was asked for, or nothing."""
    with pytest.raises(RequestError, match=reason):
        store.sign(SigningRequest.read(ASKED.request_pem), order, tmp_path, now=NOW, by="ann@ca")
    assert LedgerEvent.SIGNED not in [record.event for record in store.records()]


@pytest.mark.parametrize(
    ("names", "common_names", "reason"),
    [
        ([], (), "asks for no name"),
        ([], ("worker-1", "admin"), "asks for worker-1 and admin"),
        ([x509.UniformResourceIdentifier("spiffe://zkp.local/admin/worker-1")], ("worker-1",), "admin/worker-1"),
        ([x509.RFC822Name("root@zkp.local")], ("worker-1",), r"host root@zkp\.local"),
        ([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))], ("worker-1",), "host "),
    ],
)
def test_a_request_for_somebody_else_is_refused(
    names: list[x509.GeneralName], common_names: tuple[str, ...], reason: str
) -> None:
    """Two names, none, a foreign identity and odd kinds of name are each refused by what they say."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = SigningRequest.read(_pem(_request(key, *names, common_names=common_names), key))
    with pytest.raises(RequestError, match=reason):
        request.check(identity(), ())


def test_its_own_identity_may_be_asked_for() -> None:
    """A request that already states the right SPIFFE URI is in order."""
    key = ec.generate_private_key(ec.SECP256R1())
    SigningRequest.read(_pem(_request(key, x509.UniformResourceIdentifier(identity().uri)), key)).check(
        identity(), ()
    )


def test_an_identity_of_another_trust_domain_may_not_be_asked_for(store: AuthorityStore, tmp_path: Path) -> None:
    """No name constraint of the issuing CA would refuse its URI afterwards, so the authority does."""
    key = ec.generate_private_key(ec.SECP256R1())
    foreign = x509.UniformResourceIdentifier("spiffe://other.local/worker/worker-1")
    with pytest.raises(RequestError, match=r"asks for spiffe://other\.local/worker/worker-1, not for spiffe://zkp"):
        store.sign(
            SigningRequest.read(_pem(_request(key, foreign), key)),
            CertificateSpec("worker-1", Role.WORKER),
            tmp_path,
            now=NOW,
            by="ann",
        )
    assert LedgerEvent.SIGNED not in [record.event for record in store.records()]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("granted", [True, False])
def test_a_certificate_has_the_dns_name_of_its_identity(
    store: AuthorityStore, tmp_path: Path, asked: bool, granted: bool
) -> None:
    """It is in the certificate once, whether the request asks for it, the order has it as a host, or neither."""
    own = "worker-1.zkp.local"
    request = SigningRequest.read(create_request("worker-1", ["127.0.0.1", *[own] * asked]).request_pem)
    order = CertificateSpec("worker-1", Role.WORKER, ("127.0.0.1", *[own] * granted))
    leaf = store.sign(request, order, tmp_path, now=NOW, by="ann@ca").certificate
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [own]


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_keys_that_this_network_cannot_use_are_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    """Ed25519, P-521 and RSA keys are refused with the reason, before anything is signed."""
    with pytest.raises(RequestError, match=r"has a key that gRPC or this network refuses \(.*use P-256 or P-384"):
        SigningRequest.read(_pem(_request(key), key))
    with pytest.raises(AuthorityError, match="use P-256 or P-384"):
        AUTHORITY.certify(key.public_key(), "worker-1", Role.WORKER, now=NOW)


def test_a_request_needs_its_keys_own_signature() -> None:
    """Nobody gets a certificate for a key that he only knows the public half of."""
    pem = x509.load_pem_x509_csr(ASKED.request_pem).public_bytes(serialization.Encoding.DER)
    forged = pem[:-4] + bytes([pem[-4] ^ 1]) + pem[-3:]
    with pytest.raises(RequestError, match="not signed by its own key"):
        SigningRequest.read(forged)


def test_one_key_belongs_to_one_name(store: AuthorityStore, tmp_path: Path) -> None:
    """A key that worker-1 has is not certified for worker-2 as well."""
    store.sign(SigningRequest.read(ASKED.request_pem), ORDER, tmp_path / "a", now=NOW, by="ann@ca")
    key = serialization.load_pem_private_key(ASKED.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    again = SigningRequest.read(_pem(_request(key, common_names=("worker-2",)), key))
    with pytest.raises(RequestError, match="has the key of worker-1"):
        store.sign(again, CertificateSpec("worker-2", Role.WORKER), tmp_path / "b", now=NOW, by="ann@ca")


def test_a_stolen_key_never_comes_back(store: AuthorityStore, tmp_path: Path) -> None:
    """After a revocation for key compromise neither the same request nor a renewal certifies that key."""
    request = SigningRequest.read(ASKED.request_pem)
    store.sign(request, ORDER, tmp_path / "a", now=NOW, by="ann@ca")
    store.revoke(store.find("worker-1", NOW), Reason.KEY_COMPROMISE, now=NOW, by="ann@ca")
    with pytest.raises(RequestError, match="revoked as compromised"):
        store.sign(request, ORDER, tmp_path / "b", now=NOW, by="ann@ca")


@pytest.mark.parametrize("name", ["", "a.b", "Worker", "../x"])
def test_a_name_is_checked_on_the_host_already(name: str) -> None:
    """A request that could never be signed is not made."""
    with pytest.raises(IdentityError, match="use 1 to 63 of"):
        create_request(name)
    with pytest.raises(AuthorityError, match="host"):
        create_request("worker-1", ["*.zkp.local"])


def _read(data: bytes) -> None:
    try:
        request = SigningRequest.read(data)
        request.check(identity(), ORDER.hosts)
    except PkiError as error:
        assert "\n" not in str(error)  # noqa: PT017  # a refusal is one outcome of two


@_DETERMINISTIC
@given(st.binary(max_size=400))
@example(b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n")
@example(b"0" * 70_000)
def test_any_bytes_are_a_request_or_one_line(data: bytes) -> None:
    """No input breaks the reader."""
    _read(data)


@_DETERMINISTIC
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_a_damaged_request_is_a_request_or_one_line(changes: list[tuple[int, int]], pem: bool) -> None:
    """Bytes changed anywhere in a good request, as PEM or DER, never break the reader."""
    der = x509.load_pem_x509_csr(ASKED.request_pem).public_bytes(serialization.Encoding.DER)
    data = bytearray(ASKED.request_pem if pem else der)
    for place, value in changes:
        data[place % len(data)] = value
    _read(bytes(data))


@_DETERMINISTIC
@given(st.integers(0, 600), st.binary(max_size=8))
def test_a_cut_request_is_one_line(length: int, tail: bytes) -> None:
    """Half a request, with something behind it or not, never breaks the reader."""
    der = x509.load_pem_x509_csr(ASKED.request_pem).public_bytes(serialization.Encoding.DER)
    _read(der[:length] + tail)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1)
    return bytes([tag]) + (length if size < 128 else bytes([0x80 | len(length)]) + length) + content


@_DETERMINISTIC
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@example([(5, 1)])  # another version
def test_a_signed_absurdity_is_one_line(changes: list[tuple[int, int]]) -> None:
    """Names and extensions that make no sense, under a good signature, never break the reader."""
    key = serialization.load_pem_private_key(ASKED.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    asked = x509.load_pem_x509_csr(ASKED.request_pem)
    body = bytearray(asked.tbs_certrequest_bytes)
    for place, value in changes:
        body[place % len(body)] = value
    _read(_signed(bytes(body), key))


def test_what_the_test_signs_is_a_request() -> None:
    """The absurdities above are refused for what they say, and not for how they were put together."""
    key = serialization.load_pem_private_key(ASKED.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    body = x509.load_pem_x509_csr(ASKED.request_pem).tbs_certrequest_bytes
    assert SigningRequest.read(_signed(body, key)) == SigningRequest.read(ASKED.request_pem)


def _signed(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    return _der(0x30, body + algorithm + _der(0x03, b"\0" + signature))
