"""Names that an authority may certify: its trust domain, DNS domains and networks.

DNS domains, the trust domain among them, are also written into the issuing CA as critical name constraints, so that
verifiers enforce them even if the issuing key is stolen. Only DNS names are: BoringSSL (gRPC) refuses every chain
with an IP constraint over an IP name as an "unsupported name constraint type", and rustls every chain with a URI
constraint over a URI. So networks are enforced when a certificate is signed, and the trust domain of an identity
also by every connection of ours (`peers.py`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.errors import AuthorityError

HostName = x509.DNSName | x509.IPAddress
Network = IPv4Network | IPv6Network

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_LOCALHOST = "localhost"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}")


def parse_host(text: str) -> HostName:
    """Parse a `--host`: an IPv4 or IPv6 address, or a DNS name. Raises `AuthorityError`."""
    try:
        address = ip_address(text)
    except ValueError:
        name = text.lower()
        if not _DNS_NAME.fullmatch(name):
            raise AuthorityError(
                f"host {text!r}: give an IP address or a DNS name, without port, wildcard or final dot"
            ) from None
        return x509.DNSName(name)
    if address.is_unspecified or "%" in text:
        raise AuthorityError(f"host {text!r} is a wildcard or has a zone: give the address that others dial")
    return x509.IPAddress(address)


def trust_domain_of(ca: x509.Certificate) -> str | None:
    """Return the trust domain of a CA: the organisation in its subject. None unless there is exactly one."""
    stated = ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(stated[0].value) if len(stated) == 1 else None


def parse_network(text: str) -> Network:
    """Parse a `--network`, like 192.168.1.0/24. Raises `AuthorityError`."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise AuthorityError(f"network {text!r}: {error}; write it like 192.168.1.0/24") from None


def _parse_domain(text: str) -> str:
    host = parse_host(text)
    if not isinstance(host, x509.DNSName):
        raise AuthorityError(f"domain {text!r} is an address: give it as a network, like {text}/32")
    return host.value


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """Names that one authority may certify. Loopback and localhost are always permitted."""

    trust_domain: str
    domains: tuple[str, ...]  # each permits itself and its subdomains
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, trust_domain: str, domains: Iterable[str] = (), networks: Iterable[Network] = ()) -> Self:
        """Return the names of a new authority: the given ones, the trust domain's, loopback and localhost."""
        return cls(
            trust_domain,
            tuple(dict.fromkeys((trust_domain, _LOCALHOST, *map(_parse_domain, domains)))),
            tuple(dict.fromkeys((*LOOPBACK, *networks))),
        )

    @classmethod
    def read(cls, issuer: x509.Certificate, networks: Iterable[Network] = ()) -> Self:
        """Return the names in an issuing CA's name constraints, with the networks of its authority."""
        try:
            stated = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            raise AuthorityError("issuing CA has no name constraints: make one with `pki init`") from None
        domains = [name.value for name in stated.permitted_subtrees or () if isinstance(name, x509.DNSName)]
        trust_domain = trust_domain_of(issuer)
        if trust_domain not in domains:
            raise AuthorityError("issuing CA is not constrained to its trust domain: make one with `pki init`")
        return cls.of(trust_domain, domains, networks)

    def constraints(self) -> x509.NameConstraints:
        """Return the extension for the issuing CA, which is critical there."""
        permitted = [x509.DNSName(domain) for domain in self.domains]
        return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)

    def check(self, host: HostName) -> None:
        """Raise `AuthorityError` when the host is not permitted."""
        if isinstance(host, x509.IPAddress):
            if not any(host.value in network for network in self.networks):
                known = ", ".join(str(network) for network in self.networks)
                raise AuthorityError(
                    f"host {host.value} is outside this authority's networks ({known}): "
                    "permit its network in authority.json, or with `pki rotate-issuer --network`"
                )
        elif not any(host.value == domain or host.value.endswith(f".{domain}") for domain in self.domains):
            raise AuthorityError(
                f"host {host.value} is outside this authority's domains ({', '.join(self.domains)}): "
                "permit its domain with `pki rotate-issuer --domain`"
            )
