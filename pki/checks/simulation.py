"""Simulation of every connection of a deployment at a given time, without network access.

A link is one member that dials another at one of its addresses. Each end verifies the other with the roots and CRLs
on its own disk, so that differences between hosts, for example during a rotation, are found before connections fail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.ca.specification import CertificateSpec
from pki.checks.inspection import covers, read_chain, revoked_faults, serves, stale_faults
from pki.errors import ChainError, IdentityError, PkiError, RevocationError
from pki.files import TlsFiles, read_file
from pki.x509 import compatibility
from pki.x509.chain import check_validity, verify_chain
from pki.x509.crl import RevocationLists
from pki.x509.identity import Role, identity_of

DIALS: Mapping[Role, tuple[Role, ...]] = MappingProxyType(
    {
        Role.COORDINATOR: (Role.COORDINATOR, Role.POSTGRES),
        Role.WORKER: (Role.COORDINATOR,),
        Role.GATEWAY: (Role.COORDINATOR,),
        Role.CLIENT: (Role.COORDINATOR, Role.GATEWAY),
        Role.ADMIN: (Role.COORDINATOR, Role.GATEWAY, Role.WORKER),
        Role.PROMETHEUS: (Role.COORDINATOR, Role.GATEWAY, Role.WORKER),
    }
)
"""Roles that each role connects to."""


class Cause(StrEnum):
    """Cause of a broken link."""

    FILES = "files"  # missing or unreadable
    IDENTITY = "identity"  # the certificate of another member
    LEAF = "leaf"  # expired or not yet valid
    CHAIN = "chain"  # no path to a root that the other end trusts, at that time
    CRL = "crl"  # revoked, or a list that is expired or missing
    SAN = "san"  # the configured address is not in the certificate
    PURPOSE = "purpose"  # the certificate is not for serving, or not for dialling


@dataclass(frozen=True, slots=True)
class ConnectionFault:
    """Fault of one member."""

    cause: Cause
    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """One required connection of the deployment."""

    dialler: str
    server: str
    address: str

    def __str__(self) -> str:
        return f"{self.dialler} → {self.server} ({self.address})"


@dataclass(frozen=True, slots=True)
class Break:
    """Fault with every link that it breaks; empty if the member has no links."""

    fault: ConnectionFault
    links: tuple[ConnectionCheck, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    spec: CertificateSpec
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    lists: RevocationLists | None


def simulate(specs: Sequence[CertificateSpec], certificates: Path, at: datetime) -> tuple[list[Break], int]:
    """Return what breaks at the time `at`, and the total number of links.

    `specs` are the deployed members with their addresses; `certificates`/NAME holds the files on each member's disk.
    """
    broken: dict[ConnectionFault, list[ConnectionCheck]] = {}
    members: dict[str, _Member] = {}
    for spec in specs:
        found = _read(spec, certificates / spec.name)
        if isinstance(found, ConnectionFault):
            broken[found] = []
        else:
            members[spec.name] = found
            broken |= {fault: [] for fault in _member_faults(found, at)}
    links = list(_links(specs))
    for link in links:
        dialler, server = members.get(link.dialler), members.get(link.server)
        for name, there in ((link.dialler, dialler), (link.server, server)):
            if there is None:
                fault = next(fault for fault in broken if fault.member == name and fault.cause is Cause.FILES)
                broken[fault].append(link)
        if dialler is not None and server is not None:
            for fault in dict.fromkeys(_link_faults(dialler, server, link.address, at)):
                broken.setdefault(fault, []).append(link)
    return [Break(fault, tuple(which)) for fault, which in broken.items()], len(links)


def notes(specs: Sequence[CertificateSpec], certificates: Path) -> list[str]:
    """Return a line for each certificate that other TLS stacks refuse although no link breaks."""
    members = (_read(spec, certificates / spec.name) for spec in specs)
    return list(
        compatibility.chain_notes(
            certificate for member in members if isinstance(member, _Member) for certificate in member.chain
        )
    )


def _links(specs: Sequence[CertificateSpec]) -> Iterator[ConnectionCheck]:
    for dialler in specs:
        for server in specs:
            if server.role in DIALS.get(dialler.role, ()) and server is not dialler:
                for address in server.hosts:
                    yield ConnectionCheck(dialler.name, server.name, address)


def _read(spec: CertificateSpec, directory: Path) -> _Member | ConnectionFault:
    files = TlsFiles.in_directory(directory)
    lists = files.crl
    try:
        return _Member(
            spec,
            tuple(read_chain(files.certificate)),
            tuple(read_chain(files.ca)),
            RevocationLists.read(read_file(lists)) if lists is not None and lists.exists() else None,
        )
    except RevocationError as error:
        return ConnectionFault(Cause.FILES, spec.name, f"{lists} {error}")
    except PkiError as error:
        return ConnectionFault(Cause.FILES, spec.name, str(error))


def _member_faults(member: _Member, at: datetime) -> Iterator[ConnectionFault]:
    """Yield faults that break every link of a member, whatever the other end is."""
    name, leaf = member.spec.name, member.chain[0]
    try:
        identity = identity_of(leaf)
        if (identity.name, identity.role) != (name, member.spec.role):
            yield ConnectionFault(Cause.IDENTITY, name, f"has the certificate of {identity}: give it its own")
    except IdentityError as error:
        yield ConnectionFault(Cause.IDENTITY, name, str(error))
    try:
        check_validity(leaf, at)
    except ChainError as error:
        yield ConnectionFault(Cause.LEAF, name, str(error))


def _link_faults(dialler: _Member, server: _Member, address: str, at: datetime) -> Iterator[ConnectionFault]:
    if not covers(server.chain[0], address):
        reason = f"its certificate does not cover {address}: issue it again with --host {address}"
        yield ConnectionFault(Cause.SAN, server.spec.name, reason)
    for member, purpose, use in (
        (server, ExtendedKeyUsageOID.SERVER_AUTH, "serving"),
        (dialler, ExtendedKeyUsageOID.CLIENT_AUTH, "dialling"),
    ):
        if not serves(member.chain[0], purpose):
            reason = f"its certificate is not for {use}: issue it as the {member.spec.role} it is"
            yield ConnectionFault(Cause.PURPOSE, member.spec.name, reason)
    yield from _rejections(server, dialler, at)
    yield from _rejections(dialler, server, at)


def _rejections(shown: _Member, verifier: _Member, at: datetime) -> Iterator[ConnectionFault]:
    """Yield why `verifier` refuses the certificate of `shown`, attributed to the member that must be fixed."""
    own = list(_member_faults(shown, at))
    if own:
        yield from own
        return
    path = _path(shown.chain, verifier.roots, at)
    if isinstance(path, str):
        at_home = _path(shown.chain, shown.roots, at)
        if isinstance(at_home, str):
            yield ConnectionFault(Cause.CHAIN, shown.spec.name, at_home)
        else:
            reason = f"does not trust {at_home[-1].subject.rfc4514_string()}: give it the `pki bundle` of today"
            yield ConnectionFault(Cause.CHAIN, verifier.spec.name, reason)
        return
    if verifier.lists is not None:
        for reason in revoked_faults(path, verifier.lists):
            yield ConnectionFault(Cause.CRL, shown.spec.name, reason)
        for reason in stale_faults(path, verifier.lists, at):
            yield ConnectionFault(Cause.CRL, verifier.spec.name, reason)


@lru_cache(maxsize=4096)
def _path(
    chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], at: datetime
) -> tuple[x509.Certificate, ...] | str:
    """Return the path to a root, or the error; cached per set of trusted roots."""
    try:
        return verify_chain(chain[0], chain[1:], roots, at)
    except ChainError as error:
        return str(error)
