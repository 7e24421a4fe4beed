"""Addresses, durations, sizes, names and paths: what is taken, and how the rest is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zkp.daemon.settings.values import (
    Address,
    AnchoredPath,
    Count,
    Duration,
    LogLevel,
    Name,
    ReachableAddress,
    Size,
    TrustDomain,
)


def read(kind: Any, value: object) -> Any:
    """The value as the kind reads it."""
    return TypeAdapter(kind).validate_python(value)


def refusal_of(kind: Any, value: object) -> str | None:
    """The kind of error with which the value is refused, if it is."""
    try:
        read(kind, value)
    except ValidationError as error:
        return error.errors()[0]["type"]
    return None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.10:7000", "192.168.1.10", 7000),
        ("[::1]:9090", "::1", 9090),
        ("db.zkp.local:1", "db.zkp.local", 1),
        ("localhost:65535", "localhost", 65535),
        ("[fd00:5::11]:7000", "fd00:5::11", 7000),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    """Host names, IPv4 and bracketed IPv6 addresses are read, and written back the same."""
    address = read(Address, text)
    assert address == Address(host, port)
    assert str(address) == text


def test_an_ipv6_address_has_one_spelling() -> None:
    """Addresses are compared, and gRPC compares their text with the certificate's: the shortest form is kept."""
    assert str(read(Address, "[FD00:5:0:0::0011]:7000")) == "[fd00:5::11]:7000"
    assert read(Address, "[0:0:0:0:0:0:0:1]:7000") == Address("::1", 7000)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("localhost", "has no port"),
        (":7000", "has no valid host name"),
        ("a:b", "has a port that is not in 1–65535"),
        ("a:0", "has a port that is not in 1–65535"),
        ("a:65536", "has a port that is not in 1–65535"),
        ("a:+1", "has a port that is not in 1–65535"),
        ("::1:7000", "has an IPv6 address without brackets"),
        ("[::g]:7000", "has brackets around text that is not an IPv6 address"),
        ("[192.168.1.10]:7000", "has brackets around text that is not an IPv6 address"),
        ("[fe80::1%eth0]:7000", "has an IPv6 address with a zone"),
        ("fd00:5::11:7000", "has an IPv6 address without brackets"),
        ("https://a:7000", "has an IPv6 address without brackets"),
        ("a b:7000", "has no valid host name"),
        ("-a:7000", "has no valid host name"),
        (7000, "is not an address"),
        (None, "is not an address"),
    ],
)
def test_a_broken_address_is_refused(value: object, said: str) -> None:
    """The refusal says which part is wrong and how an address is written."""
    with pytest.raises(ValidationError, match="write HOST:PORT") as caught:
        read(Address, value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["0.0.0.0:7000", "[::]:7000", "[0:0:0:0:0:0:0:0]:7000"])
def test_a_wildcard_cannot_be_advertised(text: str) -> None:
    """An address that means every address of a machine may be listened on, and not advertised."""
    assert read(Address, text).is_wildcard
    with pytest.raises(ValidationError, match="is a wildcard, to which peers cannot connect"):
        read(ReachableAddress, text)
    assert read(ReachableAddress, "127.0.0.1:7000") == Address("127.0.0.1", 7000)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("150ms", 0.15), ("2s", 2), ("10m", 600), ("10min", 600), ("1h", 3600), ("7d", 604800), (5, 5), ("0.5", 0.5)],
)
def test_durations_are_seconds(value: object, seconds: float) -> None:
    """Every unit is read; a bare number is seconds."""
    assert read(Duration, value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "amount"),
    [("5MB", 5_000_000), ("2GiB", 2 * 2**30), ("1.5kb", 1500), (77, 77), ("64 MiB", 64 * 2**20), ("8b", 8)],
)
def test_sizes_are_bytes(value: object, amount: int) -> None:
    """Decimal and binary units are told apart; a bare number is bytes."""
    assert read(Size, value) == amount


@pytest.mark.parametrize("kind", [Duration, Size])
@pytest.mark.parametrize(
    "value", ["", "ms", "-1s", "0", "0ms", "1 fortnight", "1e3", "nan", "inf", True, None, [1], "١s", "9" * 400]
)
def test_what_is_no_quantity_is_refused(kind: Any, value: object) -> None:
    """Nothing, zero, negative, unknown units, other digits and numbers without end are refused with examples."""
    with pytest.raises(ValidationError, match=r"write a (duration|size) such as"):
        read(kind, value)


@given(st.text(max_size=30))
@hypothesis_settings(derandomize=True, deadline=None, max_examples=200)
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes a reader fail in any way but a refusal."""
    for kind in (Address, Duration, Size, Name, TrustDomain):
        assert refusal_of(kind, text) in {None, "rule"}


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a" * 64, "a_b", "a\n"])
def test_a_name_is_one_label(name: str) -> None:
    """What a certificate could not carry as a name is refused."""
    with pytest.raises(ValidationError, match="such as coordinator-1"):
        read(Name, name)
    assert read(Name, "coordinator-1") == "coordinator-1"


def test_a_trust_domain_is_a_dns_name() -> None:
    """Labels joined by dots, at most 64 characters."""
    assert read(TrustDomain, "prod.zkp.local") == "prod.zkp.local"
    for text in ("", "zkp..local", "Zkp.local", "spiffe://zkp", "a" * 60 + ".local"):
        with pytest.raises(ValidationError, match=r"such as zkp\.local"):
            read(TrustDomain, text)


def test_counts_are_whole_numbers() -> None:
    """Booleans, fractions and negative numbers count nothing; text from the environment is read."""
    assert read(Count, "25") == 25
    for value in (True, -1, 1.5, "many"):
        with pytest.raises(ValidationError):
            read(Count, value)


def test_log_levels_in_any_case() -> None:
    """INFO and info are the same level; an unknown one is refused."""
    assert read(LogLevel, "INFO") == "info"
    with pytest.raises(ValidationError):
        read(LogLevel, "loud")


def test_relative_paths_lie_beside_the_configuration() -> None:
    """A relative path is relative to the given directory, an absolute one is left alone, an empty one refused."""
    adapter: TypeAdapter[Path] = TypeAdapter(AnchoredPath)
    context = {"directory": Path("/etc/zkp")}
    assert adapter.validate_python("tls/key.pem", context=context) == Path("/etc/zkp/tls/key.pem")
    assert adapter.validate_python("/run/key.pem", context=context) == Path("/run/key.pem")
    with pytest.raises(ValidationError, match="give a path"):
        adapter.validate_python(" ", context=context)
