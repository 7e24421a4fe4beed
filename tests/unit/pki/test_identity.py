"""Identities: valid and invalid ones, and their encoding in certificates."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority
from pki.x509.identity import Identity, IdentityError, Role, identity_of
from pki.x509.name_constraints import parse_host
from tests.unit.pki.forgery import TRUST_DOMAIN, identity, signed_leaf

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_DETERMINISTIC = settings(deadline=None, derandomize=True)


def test_the_uri_names_trust_domain_role_and_name() -> None:
    """The SPIFFE URI has one written form."""
    assert identity(Role.COORDINATOR, "coordinator-1").uri == "spiffe://zkp.local/coordinator/coordinator-1"


@_DETERMINISTIC
@given(st.sampled_from(Role), st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True))
def test_every_identity_survives_its_uri(role: Role, name: str) -> None:
    """Parsing a URI gives back the identity that wrote it."""
    assert Identity.parse(identity(role, name).uri) == identity(role, name)


def test_every_role_has_its_article() -> None:
    """It is "an admin"; all others begin with a consonant."""
    assert [role.with_article for role in Role] == [
        "a coordinator",
        "a worker",
        "a gateway",
        "a client",
        "an admin",
        "a prometheus",
        "a postgres",
    ]


@_DETERMINISTIC
@given(
    st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"(?:[a-z0-9-]{1,62}\.){0,3}[a-z0-9-]{1,62}", fullmatch=True),
)
@example("a" * 63, f"{'b' * 62}.c")
@example("1", "localhost")
def test_every_identity_has_a_dns_name(name: str, trust_domain: str) -> None:
    """Whatever can name a member of a network makes a DNS name with it, so no name has to be refused for it."""
    try:
        wanted = Identity(trust_domain, Role.WORKER, name).dns_name
    except IdentityError:
        return
    assert wanted == f"{name}.{trust_domain}"
    assert parse_host(wanted) == x509.DNSName(wanted)
    assert len(wanted) <= 253


@_DETERMINISTIC
@given(st.text() | st.text().map(lambda text: f"spiffe://{TRUST_DOMAIN}/worker/{text}"))
def test_parsing_anything_gives_the_same_text_or_an_identity_error(text: str) -> None:
    """No text is read as an identity that is not written exactly so, and none breaks the parser."""
    try:
        parsed = Identity.parse(text)
    except IdentityError:
        return
    assert parsed.uri == text


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://zkp.local/worker/worker-1",
        "spiffe://zkp.local/worker",
        "spiffe://zkp.local/worker/worker-1/more",
        "spiffe://zkp.local/worker/worker-1?x",
        "spiffe://zkp.local/robot/worker-1",
        "spiffe://zkp.local:80/worker/worker-1",
        "spiffe://10.0.0.1/worker/worker-1",
        "SPIFFE://zkp.local/worker/worker-1",
        "spiffe://zkp.local/worker/../admin",
        "spiffe://zkp.local/worker/Worker-1",
        "spiffe://zkp.local/worker/worker-1\n",
        "spiffe:///worker/worker-1",
    ],
)
def test_near_misses_are_refused(uri: str) -> None:
    """What almost looks like an identity is none."""
    with pytest.raises(IdentityError):
        Identity.parse(uri)


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "-a", "a-", "a" * 64, "A", "a_b", "ä", "..", "a b"])
def test_a_name_is_one_dns_label(name: str) -> None:
    """Names that are unsafe in a path, a URI or a common name are refused with the cure."""
    with pytest.raises(IdentityError, match=r"use 1 to 63 of a-z"):
        identity(name=name)


@pytest.mark.parametrize("trust_domain", ["", "ZKP.local", "zkp..local", "192.168.1.10", "zkp.local.", "a" * 65])
def test_a_trust_domain_is_a_dns_name(trust_domain: str) -> None:
    """A malformed trust domain never becomes an authority."""
    with pytest.raises(IdentityError, match="trust domain"):
        Authority.create(trust_domain, now=NOW)


def test_a_certificate_without_names_or_with_two_uris_names_nobody() -> None:
    """Exactly one URI is an identity; none and two are refused."""
    authority = Authority.create(TRUST_DOMAIN, now=NOW)
    good = authority.issue("worker-1", Role.WORKER, now=NOW)
    uris = [x509.UniformResourceIdentifier(identity(name=name).uri) for name in ("worker-1", "worker-2")]
    two = signed_leaf(
        good,
        ec.generate_private_key(ec.SECP256R1()),
        authority.issuer.key,
        authority.issuer.certificate.subject,
        NOW,
        names=x509.SubjectAlternativeName(uris),
    )
    assert identity_of(good.certificate) == identity()
    with pytest.raises(IdentityError, match="2 URIs"):
        identity_of(two.certificate)
    with pytest.raises(IdentityError, match="no subject alternative name"):
        identity_of(authority.issuer.certificate)
