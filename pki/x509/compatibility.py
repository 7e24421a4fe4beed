"""Incompatibilities with TLS stacks that this network does not use itself.

Issuing CAs made before November 2026 state a URI name constraint, and leaves made before then lack the DNS name of
their identity. Both are replaced without a gap, and this network accepts them until then: they are reported as
notes, not as faults.
"""

from collections.abc import Iterable, Iterator

from cryptography import x509

from pki.errors import IdentityError
from pki.x509.identity import identity_of


def constrains_uris(ca: x509.Certificate) -> bool:
    """Return whether the CA has a URI name constraint, below which rustls refuses every certificate with a URI."""
    try:
        stated = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    names = (*(stated.permitted_subtrees or ()), *(stated.excluded_subtrees or ()))
    return any(isinstance(name, x509.UniformResourceIdentifier) for name in names)


def lacks_dns_name(leaf: x509.Certificate) -> bool:
    """Return whether a leaf with an identity lacks that identity's DNS name."""
    try:
        wanted = identity_of(leaf).dns_name
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (IdentityError, x509.ExtensionNotFound, ValueError):
        return False
    return wanted not in names.get_values_for_type(x509.DNSName)


def leaf_notes(leaf: x509.Certificate) -> Iterator[str]:
    """Yield incompatibilities of a leaf, with the fix."""
    if lacks_dns_name(leaf):
        identity = identity_of(leaf)
        yield (
            f"{identity.name} lacks the DNS name {identity.dns_name}, without which GnuTLS and Java can refuse it: "
            f"renew it with `pki renew {identity.name}`"
        )


def issuer_notes(ca: x509.Certificate) -> Iterator[str]:
    """Yield incompatibilities of a CA, with the fix."""
    if constrains_uris(ca):
        yield (
            f"{ca.subject.rfc4514_string()} has a URI name constraint, below which rustls refuses every certificate: "
            "replace it with `pki rotate-issuer`"
        )


def chain_notes(chain: Iterable[x509.Certificate]) -> Iterator[str]:
    """Yield incompatibilities of leaves and CAs in any order, each certificate once."""
    for certificate in dict.fromkeys(chain):
        yield from leaf_notes(certificate)
        yield from issuer_notes(certificate)
