"""Types of configuration values: addresses, durations, sizes, paths, names.

Each is validated when it is read; its error shows a valid example.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from zkp.daemon.settings.section import invalid

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_QUANTITY = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port. Written "HOST:PORT", an IPv6 address in brackets: "[::1]:7000".

    An IPv6 address is stored in its shortest form: gRPC compares the text with that in the server's certificate.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse "HOST:PORT".

        Raises:
            ValueError: The text is not an address. The message does not quote it.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon:
            raise ValueError("has no port")
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError("has a port that is not in 1–65535")
        if host.startswith("[") and host.endswith("]"):
            host = _canonical_ipv6(host[1:-1])
        elif ":" in host:
            raise ValueError("has an IPv6 address without brackets")
        elif not _HOST.match(host):
            raise ValueError("has no valid host name or IP address")
        return cls(host, int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether this means "every address of this machine": valid to listen on, not to connect to."""
        return _is_ip(self.host) and ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validated(cls, value: object) -> "Address":
        if isinstance(value, cls):
            return value
        hint = "write HOST:PORT, such as 192.168.1.10:7000 or [fd00::10]:7000"
        if not isinstance(value, str):
            raise invalid("is not an address", hint)
        try:
            return cls.parse(value)
        except ValueError as error:
            raise invalid(str(error), hint) from None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _canonical_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("has brackets around text that is not an IPv6 address") from None
    if address.scope_id is not None:
        raise ValueError("has an IPv6 address with a zone, which no certificate can carry")
    return str(address)


def _reachable(address: Address) -> Address:
    if address.is_wildcard:
        hint = "give the address to which peers connect, such as 192.168.1.10:" + str(address.port)
        raise invalid(f"{address} is a wildcard, to which peers cannot connect", hint)
    return address


def _quantity(units: Mapping[str, float], hint: str) -> Callable[[object], float]:
    def parse(value: object) -> float:
        match = None if isinstance(value, bool) else _QUANTITY.match(str(value))
        if match is None or match[2].lower() not in units:
            raise invalid("is not a number with a known unit", hint)
        amount = float(match[1]) * units[match[2].lower()]
        if amount <= 0:
            raise invalid("must be above zero", hint)
        return amount

    return parse


_seconds = _quantity(_SECONDS, "write a duration such as 150ms, 2s, 10min or 1h")
_bytes = _quantity(_BYTES, "write a size such as 5MB or 2GiB")


def _anchored(path: Path, info: ValidationInfo) -> Path:
    """Resolve a relative path against the directory of the configuration file, also if a variable set it."""
    directory = (info.context or {}).get("directory")
    return path if directory is None else directory / path


def _path_text(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise invalid("is empty", "give a path")
    return value


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise invalid("is not a number", "give a whole number")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _name(value: str) -> str:
    if not re.fullmatch(_LABEL, value):
        raise invalid("is not a valid name", "use 1–63 characters from a-z, 0-9 and '-', such as coordinator-1")
    return value


def _trust_domain(value: str) -> str:
    if not re.fullmatch(rf"(?:{_LABEL}\.)*{_LABEL}", value) or len(value) > 64:
        raise invalid("is not a valid trust domain", "write a lower-case DNS name, such as zkp.local")
    return value


ReachableAddress = Annotated[Address, AfterValidator(_reachable)]
"""An address to which peers connect: not a wildcard."""

Duration = Annotated[float, BeforeValidator(_seconds)]
"""Seconds, above zero. Written "150ms", "2s", "10min" (or "10m"), "1h", "7d", or a number of seconds."""

Size = Annotated[int, BeforeValidator(lambda value: round(_bytes(value)))]
"""Bytes, above zero. Written "5MB" (5,000,000), "2GiB" (2,147,483,648), or a number of bytes."""

Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0)]
"""A whole number, zero or more."""

AnchoredPath = Annotated[Path, BeforeValidator(_path_text), AfterValidator(_anchored)]
"""An absolute path. A relative one in a configuration is relative to the directory of the configuration file."""

Name = Annotated[str, AfterValidator(_name)]
"""The name of a node, as in its certificate."""

TrustDomain = Annotated[str, AfterValidator(_trust_domain)]
"""The name of the network to which every certificate belongs."""

LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
"""The least severe messages to log."""
