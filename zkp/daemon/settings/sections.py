"""Sections that several daemons have, and rules on addresses."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from zkp.daemon.settings.errors import SettingFault
from zkp.daemon.settings.section import Section
from zkp.daemon.settings.values import Address, AnchoredPath


class TlsSettings(Section):
    """Files of this process's certificate. All are reloaded on SIGHUP and soon after a change."""

    certificate: AnchoredPath = Field(
        description="this process's certificate with its issuing CA, PEM",
        examples=["/etc/zkp/tls/certificate.pem"],
    )
    key: AnchoredPath = Field(
        description="the certificate's private key, PEM, readable by this process only",
        examples=["/etc/zkp/tls/key.pem"],
    )
    ca: AnchoredPath = Field(
        description="the root certificates that peers must chain to, PEM", examples=["/etc/zkp/tls/ca.pem"]
    )
    crl: AnchoredPath | None = Field(
        default=None,
        description="revocation lists, PEM; default: crl.pem in the directory of tls.ca, as soon as it exists",
        examples=["/etc/zkp/tls/crl.pem"],
    )


def clashing_binds(binds: Mapping[str, Address]) -> Iterator[SettingFault]:
    """Yield a fault for each address, by its key, that conflicts with one before it."""
    taken: list[tuple[str, Address]] = []
    for key, address in binds.items():
        for other_key, other in taken:
            same_host = address.host == other.host or address.is_wildcard or other.is_wildcard
            if address.port == other.port and same_host:
                yield SettingFault(key, f"{address} conflicts with {other_key} {other}", "give each its own port")
        taken.append((key, address))


def repeated(key: str, items: Sequence[tuple[str, object]], noun: str) -> Iterator[SettingFault]:
    """Yield a fault for each item of the list at `key` that equals an earlier one. Items: (inner key, value)."""
    first: dict[object, int] = {}
    for index, (inner, item) in enumerate(items):
        item_key = f"{key}.{index}.{inner}" if inner else f"{key}.{index}"
        if item in first:
            yield SettingFault(
                item_key, f"{item} is also the {noun} of {key}[{first[item]}]", f"give each its own {noun}"
            )
        first.setdefault(item, index)
