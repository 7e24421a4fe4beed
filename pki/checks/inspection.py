"""Inspection of a certificate: all faults, not only the first one that a peer would find.

The authority can check more than a peer: its networks (which name constraints cannot state, see
`x509/name_constraints.py`), what it revoked, and what it signed. A certificate that verifies but is not in the ledger
means that the issuing CA's key is compromised.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ca.profiles import BACKDATE, LEAF_LIFE, PROFILES
from pki.errors import AuthorityError, IdentityError, PkiError, RevocationError, StoreError
from pki.files import read_file
from pki.store.state import AuthorityState
from pki.x509 import compatibility
from pki.x509.chain import is_authority, verify_chain
from pki.x509.crl import RevocationLists, check_current
from pki.x509.identity import Identity, Role, identity_of
from pki.x509.keys import check_leaf_key
from pki.x509.name_constraints import NameConstraints, parse_host
from pki.x509.parsing import read_certificates
from pki.x509.serials import format_serial

_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}


@dataclass(frozen=True, slots=True)
class Expectation:
    """Criteria for a certificate. Those that are None or empty are not checked."""

    roots: Sequence[x509.Certificate]
    lists: RevocationLists | None = None
    hosts: tuple[str, ...] = ()  # addresses that peers dial
    role: Role | None = None
    name: str | None = None
    scope: NameConstraints | None = None  # of the authority, its networks included
    register: AuthorityState | None = None  # of the authority


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of an inspection: identity, path to a root, and each fault and note as one line with the fix."""

    identity: Identity | None
    path: tuple[x509.Certificate, ...]
    faults: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())  # refused by other TLS stacks only


def read_chain(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, leaf first; raise `StoreError` if it has none."""
    try:
        return read_certificates(read_file(path))
    except ValueError:
        raise StoreError(
            f"{path} holds no PEM certificate that can be read: name a file that `pki issue` wrote"
        ) from None


def inspect(chain: Sequence[x509.Certificate], expected: Expectation, now: datetime) -> Finding:
    """Inspect a leaf, followed by its CAs in `chain`, as of `now`."""
    leaf, *issuers = chain
    path: tuple[x509.Certificate, ...] = ()
    faults: list[str] = []

    def chain_holds() -> None:
        nonlocal path
        path = verify_chain(leaf, issuers, expected.roots, now)

    identity: Identity | None = None
    try:
        identity = identity_of(leaf)
    except IdentityError as error:
        faults.append(str(error))
    _collect(faults, chain_holds)
    _collect(faults, lambda: check_leaf_key(leaf.public_key()))
    faults += _extension_faults(leaf, identity)
    if identity is not None:
        faults += _name_faults(identity, expected)
    faults += _host_faults(leaf, expected)
    faults += _revocation_faults(path or (*chain, *expected.roots), expected, now)
    faults += _ledger_faults(leaf, expected, certified=bool(path))
    return Finding(identity, path, tuple(dict.fromkeys(faults)), tuple(compatibility.chain_notes(chain)))


def covers(leaf: x509.Certificate, host: str) -> bool:
    """Return whether the certificate is valid for `host`. There are no wildcard names."""
    wanted = parse_host(host)
    return wanted in _names(leaf)


def serves(leaf: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    """Return whether the extended key usage permits a purpose."""
    try:
        return purpose in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False


def _collect(faults: list[str], check: Callable[[], object]) -> None:
    try:
        check()
    except PkiError as error:
        faults.append(str(error))


def _extension_faults(leaf: x509.Certificate, identity: Identity | None) -> Iterator[str]:
    """Yield extensions that differ from the role's profile."""
    if is_authority(leaf):
        return  # reported by the chain check
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if life > LEAF_LIFE + BACKDATE:
        yield f"is valid for {life.days} days, and a leaf at most {LEAF_LIFE.days}: issue it with `pki issue`"
    try:
        extensions = leaf.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError) as error:
        yield f"its usage cannot be read ({error}): issue it with `pki issue`"
        return
    if not usage.critical or not usage.value.digital_signature:
        yield "its key usage is not a critical digitalSignature: issue it with `pki issue`"
    if identity is not None and purposes != set(PROFILES[identity.role].usages):
        stated = ", ".join(sorted(_PURPOSES.get(purpose, purpose.dotted_string) for purpose in purposes))
        yield f"its purposes ({stated}) are not those of {identity.role.with_article}: issue it with `pki issue`"


def _name_faults(identity: Identity, expected: Expectation) -> Iterator[str]:
    if expected.scope is not None and identity.trust_domain != expected.scope.trust_domain:
        yield f"it is of the trust domain {identity.trust_domain}, not {expected.scope.trust_domain}"
    if expected.role is not None and identity.role is not expected.role:
        yield f"its role is {identity.role}, not {expected.role}: use the certificate of the {expected.role}"
    if expected.name is not None and identity.name != expected.name:
        yield f"it names {identity.name}, not {expected.name}: use the certificate of {expected.name}"


def _host_faults(leaf: x509.Certificate, expected: Expectation) -> Iterator[str]:
    names = _names(leaf)
    for host in expected.hosts:
        if not covers(leaf, host):
            stated = ", ".join(str(name.value) for name in names) or "no host"
            yield f"it does not cover {host} (it covers {stated}): issue it again with --host {host}"
    if expected.scope is None:
        return
    for name in names:
        try:
            expected.scope.check(name)
        except AuthorityError as error:
            yield str(error)


def _revocation_faults(path: Sequence[x509.Certificate], expected: Expectation, now: datetime) -> Iterator[str]:
    if expected.lists is not None:
        yield from revoked_faults(path, expected.lists)
        yield from stale_faults(path, expected.lists, now)


def _ledger_faults(leaf: x509.Certificate, expected: Expectation, *, certified: bool) -> Iterator[str]:
    if expected.register is None:
        return
    revocation = expected.register.revocations.get(leaf.serial_number)
    if revocation is not None:
        yield f"it was revoked at {revocation.at:%Y-%m-%d %H:%M} UTC ({revocation.reason}): issue a new one"
    if certified and not any(known.serial == leaf.serial_number for known in expected.register.leaves):
        yield (
            f"the ledger does not know {format_serial(leaf.serial_number)}, which its issuing CA signed: "
            "someone else holds the CA's key; replace it with `pki rotate-issuer`"
        )


def revoked_faults(path: Sequence[x509.Certificate], lists: RevocationLists) -> Iterator[str]:
    """Yield the certificates of a path that these CRLs revoke."""
    for certificate in path:
        if certificate.serial_number in lists.serials:
            yield f"{certificate.subject.rfc4514_string()} is revoked by the list: issue a new one"


def stale_faults(path: Sequence[x509.Certificate], lists: RevocationLists, now: datetime) -> Iterator[str]:
    """Yield reasons other than revocation for which verifiers with these CRLs refuse a path, leaf first."""
    for ca in path[1:]:
        try:
            one = lists.of(ca)
            if one is not None:
                check_current(one, now)
            elif ca is path[1]:
                yield f"the revocation file lacks {ca.subject.rfc4514_string()}: hand out `pki bundle` again"
        except RevocationError as error:
            yield f"the revocation file {error}"


def _names(leaf: x509.Certificate) -> list[x509.DNSName | x509.IPAddress]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
