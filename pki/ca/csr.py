"""Certificate signing requests (CSR), with which a key never leaves its host.

A request carries a public key, a name and hosts. The operator who signs states name and hosts again, and a request
for others is refused. All other requested extensions are ignored: the role's profile sets them.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.errors import AuthorityError, RequestError
from pki.x509.identity import Identity, check_name
from pki.x509.keys import check_leaf_key, make_leaf_key, private_pem
from pki.x509.name_constraints import parse_host
from pki.x509.parsing import UNREADABLE

MAX_BYTES = 64 * 1024  # of a request; one with a hundred hosts has 3 KiB


@dataclass(frozen=True, slots=True)
class NewRequest:
    """New key and the CSR for it, as PEM."""

    name: str
    request_pem: bytes
    key_pem: bytes = field(repr=False)


def create_request(name: str, hosts: Sequence[str] = ()) -> NewRequest:
    """Create a key and a CSR for `name`; raise `IdentityError` or `AuthorityError` for invalid names or hosts."""
    check_name(name)
    names = list(dict.fromkeys(parse_host(host) for host in hosts))
    key = make_leaf_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, hashes.SHA256())
    return NewRequest(name, request.public_bytes(serialization.Encoding.PEM), private_pem(key))


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """Content of a CSR whose signature has been checked."""

    key: ec.EllipticCurvePublicKey
    names: tuple[str, ...]  # common names; a valid request has one
    hosts: frozenset[str]
    uris: tuple[str, ...]

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse PEM or DER; raise `RequestError` unless it is well-formed and signed by its own key."""
        if len(data) > MAX_BYTES:
            raise RequestError(f"is longer than {MAX_BYTES} bytes: not a request of `pki request`")
        try:
            with warnings.catch_warnings(action="ignore"):  # about odd names, which are refused anyway
                return cls._parsed(data)
        except AuthorityError as error:
            raise RequestError(f"has {error}") from None
        except UNREADABLE:
            raise RequestError("is not a readable signing request: make it with `pki request`") from None

    @classmethod
    def _parsed(cls, data: bytes) -> Self:
        load = x509.load_pem_x509_csr if b"-----BEGIN" in data else x509.load_der_x509_csr
        request = load(data)
        if not request.is_signature_valid:
            raise RequestError("is not signed by its own key: make it again with `pki request`")
        key = check_leaf_key(request.public_key())
        common_names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        hosts, uris = _subject_names(request.extensions)
        return cls(key, tuple(str(name.value) for name in common_names), hosts, uris)

    def check(self, identity: Identity, hosts: Iterable[str]) -> None:
        """Raise `RequestError` unless the request is for this name, these hosts and no other identity."""
        if self.names != (identity.name,):
            asked = " and ".join(self.names) or "no name"
            raise RequestError(f"asks for {asked}, not for {identity.name}: say --name as it asks, or make it again")
        if self.uris not in ((), (identity.uri,)):
            raise RequestError(f"asks for {', '.join(self.uris)}, not for {identity.uri}: make it again")
        own = {identity.dns_name}  # in every certificate, requested or not
        granted = frozenset(str(parse_host(host).value) for host in hosts) - own
        wanted = self.hosts - own
        for which, missing in (("asks for", wanted - granted), ("does not ask for", granted - wanted)):
            if missing:
                raise RequestError(
                    f"{which} host {', '.join(sorted(missing))}: give the same --host here as to `pki request`"
                )


def _subject_names(extensions: x509.Extensions) -> tuple[frozenset[str], tuple[str, ...]]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), ()
    hosts: set[str] = set()
    uris: list[str] = []
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier):
            uris.append(name.value)
        elif isinstance(name, x509.DNSName):
            hosts.add(name.value.lower())
        else:  # addresses; other kinds are never granted, so `check` refuses them with their value
            hosts.add(str(name.value))
    return frozenset(hosts), tuple(uris)
