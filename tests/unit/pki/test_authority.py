"""Authority in memory: what it signs and what it refuses to sign."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority, create_issuer
from pki.ca.profiles import BACKDATE, ISSUER_LIFE, LEAF_LIFE, PROFILES, ROOT_LIFE
from pki.errors import AuthorityError, IdentityError, PkiError
from pki.x509.chain import verify_chain
from pki.x509.identity import Identity, Role, identity_of
from pki.x509.name_constraints import NameConstraints

BORN = datetime(2026, 6, 1, 12, 30, 15, 123456, tzinfo=UTC)
AUTHORITY = Authority.create("zkp.local", now=BORN, domains=["corp.example"])
ISSUER = AUTHORITY.issuer.certificate
_DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=60)

names = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
hosts_inside = st.lists(
    st.sampled_from(["127.0.0.1", "127.8.8.8", "::1", "localhost", "n1.zkp.local", "N2.corp.example"]),
    min_size=1,
    max_size=5,
)
instants = st.integers(0, int(ISSUER_LIFE.total_seconds()) - 1).map(lambda s: BORN + timedelta(seconds=s))
lives = st.integers(1, int(LEAF_LIFE.total_seconds())).map(lambda s: timedelta(seconds=s))


@_DETERMINISTIC
@given(names, st.sampled_from(Role), hosts_inside, instants, st.none() | lives)
def test_every_leaf_is_what_its_role_says_and_no_more(
    name: str, role: Role, hosts: list[str], now: datetime, life: timedelta | None
) -> None:
    """Any leaf verifies, names its holder, has its role's usages, and lives inside its issuer's life."""
    issued = AUTHORITY.issue(name, role, hosts, now=now, life=life)
    leaf, *issuers = x509.load_pem_x509_certificates(issued.certificate_pem)
    verify_chain(leaf, issuers, x509.load_pem_x509_certificates(issued.ca_pem), now)
    assert identity_of(leaf) == issued.identity == Identity("zkp.local", role, name)
    assert ISSUER.not_valid_before_utc <= leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc
    assert leaf.not_valid_after_utc <= min(ISSUER.not_valid_after_utc, now + (life or LEAF_LIFE))
    assert 0 < leaf.serial_number < 2**128
    extensions = {type(extension.value): extension for extension in leaf.extensions}
    assert extensions[x509.BasicConstraints].critical
    assert extensions[x509.BasicConstraints].value == x509.BasicConstraints(ca=False, path_length=None)
    assert extensions[x509.KeyUsage].critical
    assert extensions[x509.KeyUsage].value.digital_signature
    assert not extensions[x509.KeyUsage].value.key_cert_sign
    assert tuple(extensions[x509.ExtendedKeyUsage].value) == PROFILES[role].usages
    stated = [str(host.value) for host in extensions[x509.SubjectAlternativeName].value][1:]
    assert stated == list(dict.fromkeys(host.lower() for host in (*hosts, f"{name}.zkp.local")))
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


@_DETERMINISTIC
@given(st.text(max_size=70), st.sampled_from(Role), st.lists(st.text(max_size=20), max_size=3))
def test_any_request_gives_a_leaf_within_scope_or_one_line(name: str, role: Role, hosts: list[str]) -> None:
    """Whatever is asked, the authority answers with a leaf of that name or with one line of refusal."""
    answer: str
    try:
        answer = identity_of(AUTHORITY.issue(name, role, hosts, now=BORN).certificate).name
    except PkiError as error:
        answer = str(error)
    assert answer == name or (answer and "\n" not in answer)


def test_serial_numbers_are_unique() -> None:
    """Hundreds of leaves never share a serial number."""
    serials = {AUTHORITY.issue("w", Role.WORKER, now=BORN).certificate.serial_number for _ in range(300)}
    assert len(serials) == 300


def test_the_hierarchy_is_a_root_over_a_constrained_issuing_ca() -> None:
    """Root: P-384, 10 years. Issuing CA: P-384, 1 year, no CA below it, critical name constraints."""
    root = AUTHORITY.roots[0]
    for certificate, life, path_length in ((root, ROOT_LIFE, 1), (ISSUER, ISSUER_LIFE, 0)):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP384R1)
        assert certificate.not_valid_after_utc == BORN.replace(microsecond=0) + life
        assert certificate.not_valid_before_utc == BORN.replace(microsecond=0) - BACKDATE
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    stated = ISSUER.extensions.get_extension_for_class(x509.NameConstraints)
    assert stated.critical
    assert stated.value.permitted_subtrees == [
        x509.DNSName(name) for name in ("zkp.local", "localhost", "corp.example")
    ]
    assert stated.value.excluded_subtrees is None


def test_the_issuing_ca_never_outlives_its_root() -> None:
    """An issuing CA made in the root's last month ends with the root."""
    assert AUTHORITY.root is not None
    root = AUTHORITY.root
    late = root.certificate.not_valid_after_utc - timedelta(days=20)
    issuer = create_issuer(root, AUTHORITY.scope, now=late)
    assert issuer.certificate.not_valid_after_utc == root.certificate.not_valid_after_utc


@pytest.mark.parametrize("when", [BORN - timedelta(hours=1), BORN + ISSUER_LIFE, BORN + 2 * ISSUER_LIFE])
def test_an_issuing_ca_signs_only_while_it_is_valid(when: datetime) -> None:
    """A clock before or after the issuing CA's validity is an error that says so."""
    with pytest.raises(AuthorityError, match=r"issuing CA .* is valid from .*check the clock"):
        AUTHORITY.issue("worker-1", Role.WORKER, now=when)


@pytest.mark.parametrize("role", [role for role in Role if PROFILES[role].needs_host])
def test_a_role_that_others_dial_needs_a_host(role: Role) -> None:
    """A server without an address to verify is refused with the option to give."""
    with pytest.raises(AuthorityError, match="give at least one --host"):
        AUTHORITY.issue("node-1", role, now=BORN)


@pytest.mark.parametrize("life", [timedelta(0), timedelta(days=-1), LEAF_LIFE + timedelta(seconds=1)])
def test_a_leaf_has_a_bounded_life(life: timedelta) -> None:
    """Neither an empty nor an overlong life is signed."""
    with pytest.raises(AuthorityError, match="at most 30 days"):
        AUTHORITY.issue("worker-1", Role.WORKER, now=BORN, life=life)


def test_hosts_out_of_scope_and_bad_names_are_refused() -> None:
    """The scope holds for the honest path, too."""
    with pytest.raises(AuthorityError, match=r"evil\.example is outside"):
        AUTHORITY.issue("worker-1", Role.WORKER, ["evil.example"], now=BORN)
    with pytest.raises(IdentityError, match="name"):
        AUTHORITY.issue("worker.1", Role.WORKER, now=BORN)


def test_an_issuing_ca_signs_for_its_own_trust_domain_only() -> None:
    """Its name constraints leave the URI free, so the authority holds each identity to the CA that signs it."""
    other = replace(AUTHORITY, scope=NameConstraints.of("other.local"))
    with pytest.raises(AuthorityError, match=r"O=zkp\.local is not of the trust domain other\.local: use its own CA"):
        other.issue("worker-1", Role.WORKER, now=BORN)


def test_a_key_made_elsewhere_gets_the_same_profile() -> None:
    """Certifying a public key gives what issuing gives, so a request from a host can follow the same path."""
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = AUTHORITY.certify(key.public_key(), "worker-1", Role.WORKER, now=BORN)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert leaf.public_key() == key.public_key()
    assert tuple(usage) == PROFILES[Role.WORKER].usages


def test_no_repr_shows_a_key() -> None:
    """Neither an authority nor what it issues leaks its key when printed."""
    issued = AUTHORITY.issue("worker-1", Role.WORKER, now=BORN)
    shown = f"{AUTHORITY!r} {issued!r}"
    assert "PRIVATE" not in shown
    assert "PrivateKey" not in shown
