"""Will the network hold together at some later time? Every connection of a deployment, tried on paper.

A link is one member that dials another at one of its addresses. Each end verifies the other with its own roots and
its own revocation lists, as they lie on its disk: so what differs from host to host, in the middle of a rotation
say, is found before it hurts.
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
"""Who connects to whom."""


class Cause(StrEnum):
    """What breaks a link."""

    FILES = "files"  # missing or unreadable
    IDENTITY = "identity"  # the certificate is another's
    LEAF = "leaf"  # expired or not yet valid
    CHAIN = "chain"  # no path to a root that the other end trusts, at that time
    CRL = "crl"  # revoked, or a list that is expired or missing
    SAN = "san"  # the configured address is not in the certificate
    PURPOSE = "purpose"  # the certificate is not for serving, or not for dialling


@dataclass(frozen=True, slots=True)
class ConnectionFault:
    """One reason, at one member."""

    cause: Cause
    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """One connection that the deployment needs."""

    dialler: str
    server: str
    address: str

    def __str__(self) -> str:
        return f"{self.dialler} → {self.server} ({self.address})"


@dataclass(frozen=True, slots=True)
class Break:
    """A fault with every link that it breaks; none when nobody dials the member, or it dials nobody."""

    fault: ConnectionFault
    links: tuple[ConnectionCheck, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    order: CertificateSpec
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    lists: RevocationLists | None


def simulate(orders: Sequence[CertificateSpec], certificates: Path, at: datetime) -> tuple[list[Break], int]:
    """What breaks at `at`, and how many links there are in all.

    `orders` say who is deployed under which addresses, `certificates`/NAME holds what lies on each one's disk.
    """
    broken: dict[ConnectionFault, list[ConnectionCheck]] = {}
    members: dict[str, _Member] = {}
    for order in orders:
        found = _read(order, certificates / order.name)
        if isinstance(found, ConnectionFault):
            broken[found] = []
        else:
            members[order.name] = found
            broken |= {fault: [] for fault in _own_faults(found, at)}
    links = list(_links(orders))
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


def notes(orders: Sequence[CertificateSpec], certificates: Path) -> list[str]:
    """What other TLS stacks refuse of the members' certificates although no link breaks by it, one line each."""
    members = (_read(order, certificates / order.name) for order in orders)
    return list(
        compatibility.chain_notes(
            certificate for member in members if isinstance(member, _Member) for certificate in member.chain
        )
    )


def _links(orders: Sequence[CertificateSpec]) -> Iterator[ConnectionCheck]:
    for dialler in orders:
        for server in orders:
            if server.role in DIALS.get(dialler.role, ()) and server is not dialler:
                for address in server.hosts:
                    yield ConnectionCheck(dialler.name, server.name, address)


def _read(order: CertificateSpec, directory: Path) -> _Member | ConnectionFault:
    files = TlsFiles.in_directory(directory)
    lists = files.crl
    try:
        return _Member(
            order,
            tuple(read_chain(files.certificate)),
            tuple(read_chain(files.ca)),
            RevocationLists.read(read_file(lists)) if lists is not None and lists.exists() else None,
        )
    except RevocationError as error:
        return ConnectionFault(Cause.FILES, order.name, f"{lists} {error}")
    except PkiError as error:
        return ConnectionFault(Cause.FILES, order.name, str(error))


def _own_faults(member: _Member, at: datetime) -> Iterator[ConnectionFault]:
    """What breaks every link of a member, whoever is at the other end, or nobody."""
    name, leaf = member.order.name, member.chain[0]
    try:
        identity = identity_of(leaf)
        if (identity.name, identity.role) != (name, member.order.role):
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
        yield ConnectionFault(Cause.SAN, server.order.name, reason)
    for member, purpose, use in (
        (server, ExtendedKeyUsageOID.SERVER_AUTH, "serving"),
        (dialler, ExtendedKeyUsageOID.CLIENT_AUTH, "dialling"),
    ):
        if not serves(member.chain[0], purpose):
            reason = f"its certificate is not for {use}: issue it as the {member.order.role} it is"
            yield ConnectionFault(Cause.PURPOSE, member.order.name, reason)
    yield from _refusals(server, dialler, at)
    yield from _refusals(dialler, server, at)


def _refusals(shown: _Member, verifier: _Member, at: datetime) -> Iterator[ConnectionFault]:
    """Why `verifier` would refuse what `shown` shows, blamed on the one who can mend it."""
    own = list(_own_faults(shown, at))
    if own:
        yield from own
        return
    path = _path(shown.chain, verifier.roots, at)
    if isinstance(path, str):
        at_home = _path(shown.chain, shown.roots, at)
        if isinstance(at_home, str):
            yield ConnectionFault(Cause.CHAIN, shown.order.name, at_home)
        else:
            reason = f"does not trust {at_home[-1].subject.rfc4514_string()}: give it the `pki bundle` of today"
            yield ConnectionFault(Cause.CHAIN, verifier.order.name, reason)
        return
    if verifier.lists is not None:
        for reason in revoked_faults(path, verifier.lists):
            yield ConnectionFault(Cause.CRL, shown.order.name, reason)
        for reason in stale_faults(path, verifier.lists, at):
            yield ConnectionFault(Cause.CRL, verifier.order.name, reason)


@lru_cache(maxsize=4096)
def _path(
    chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], at: datetime
) -> tuple[x509.Certificate, ...] | str:
    """The path to a root, or why there is none: the same for all who trust the same roots."""
    try:
        return verify_chain(chain[0], chain[1:], roots, at)
    except ChainError as error:
        return str(error)
