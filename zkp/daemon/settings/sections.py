"""Sections that several daemons share, and rules about addresses."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from zkp.daemon.settings.errors import SettingFault
from zkp.daemon.settings.section import Section
from zkp.daemon.settings.values import Address, AnchoredPath


class TlsSettings(Section):
    """The files of this process's certificate. All are read again on SIGHUP, and soon after they have changed."""

    certificate: AnchoredPath = Field(
        description="this process's certificate with its issuing CA, PEM",
        examples=["/etc/zkp/tls/certificate.pem"],
    )
    key: AnchoredPath = Field(
        description="the certificate's private key, PEM, readable by this process alone",
        examples=["/etc/zkp/tls/key.pem"],
    )
    ca: AnchoredPath = Field(
        description="the root certificates that peers must chain to, PEM", examples=["/etc/zkp/tls/ca.pem"]
    )
    crl: AnchoredPath | None = Field(
        default=None,
        description="revocation lists, PEM; default: crl.pem beside tls.ca, once it exists",
        examples=["/etc/zkp/tls/crl.pem"],
    )


def clashing_binds(binds: Mapping[str, Address]) -> Iterator[SettingFault]:
    """A fault for each address, by its key, on which this process could not listen beside the ones before."""
    taken: list[tuple[str, Address]] = []
    for key, address in binds.items():
        for other_key, other in taken:
            same_host = address.host == other.host or address.is_wildcard or other.is_wildcard
            if address.port == other.port and same_host:
                yield SettingFault(key, f"{address} clashes with {other_key} {other}", "give each its own port")
        taken.append((key, address))


def repeated(key: str, items: Sequence[tuple[str, object]], noun: str) -> Iterator[SettingFault]:
    """A fault for each item of the list at `key` that equals an earlier one. Items: (inner key, value)."""
    first: dict[object, int] = {}
    for index, (inner, item) in enumerate(items):
        place = f"{key}.{index}.{inner}" if inner else f"{key}.{index}"
        if item in first:
            yield SettingFault(
                place, f"{item} is also the {noun} of {key}[{first[item]}]", f"give each its own {noun}"
            )
        first.setdefault(item, index)
