"""Name constraints of an authority: which hosts it may certify."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority
from pki.errors import AuthorityError
from pki.x509.name_constraints import NameConstraints, parse_host, parse_network

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCOPE = NameConstraints.of("zkp.local", ["Corp.example"], [ip_network("192.168.1.0/24"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    "host",
    [
        "zkp.local",
        "node1.zkp.local",
        "localhost",
        "a.b.corp.example",
        "127.0.0.1",
        "::1",
        "192.168.1.7",
        "fd00::1",
    ],
)
def test_hosts_inside_are_permitted(host: str) -> None:
    """The trust domain, this machine, and what was given are in scope."""
    SCOPE.check(parse_host(host))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evilzkp.local", "local", "zkp.local.evil.example", "192.168.2.7", "8.8.8.8", "fe80::1"],
)
def test_hosts_outside_are_refused_with_the_cure(host: str) -> None:
    """Everything else is refused, and the message says which option would let it in."""
    with pytest.raises(AuthorityError, match=r"outside this authority's .*`pki rotate-issuer --(domain|network)`"):
        SCOPE.check(parse_host(host))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",  # noqa: S104  # nothing is bound here, on the contrary
        "::",
        "*.zkp.local",
        "node1:7000",
        "node1.",
        "a..b",
        "1.2.3",
        "fe80::1%eth0",
        "-a",
        "a_b",
        "ä.de",
    ],
)
def test_what_nobody_can_dial_is_no_host(host: str) -> None:
    """Wildcards, ports and malformed names are refused before anything is signed."""
    with pytest.raises(AuthorityError, match="host"):
        parse_host(host)


@settings(deadline=None, derandomize=True)
@given(st.text())
@example("a" * 300)
def test_parsing_a_host_never_fails_otherwise(text: str) -> None:
    """Any text is a host or one line of refusal."""
    try:
        answer = str(parse_host(text).value)
    except AuthorityError as error:
        answer = str(error)
    assert answer
    assert "\n" not in answer


@pytest.mark.parametrize("network", ["", "192.168.1.5/24", "nonsense", "10.0.0.0/33"])
def test_a_malformed_network_is_refused_with_an_example(network: str) -> None:
    """A network with host bits or without sense is not silently widened."""
    with pytest.raises(AuthorityError, match=r"write it like 192\.168\.1\.0/24"):
        parse_network(network)


@pytest.mark.parametrize("domain", ["10.0.0.1", "*.corp.example", "corp.example:443"])
def test_a_domain_is_a_dns_name(domain: str) -> None:
    """An address among the domains would permit nothing, and is refused instead."""
    with pytest.raises(AuthorityError, match=r"^(domain|host) "):
        NameConstraints.of("zkp.local", [domain])


def test_the_issuing_ca_carries_its_scope() -> None:
    """Reading the name constraints back gives the scope that made them."""
    networks = [ip_network("10.0.0.0/8")]
    authority = Authority.create("zkp.local", now=NOW, domains=["corp.example"], networks=networks)
    assert NameConstraints.read(authority.issuer.certificate, networks) == authority.scope


def test_a_root_states_no_scope() -> None:
    """A CA without our constraints is not taken for an issuing CA."""
    with pytest.raises(AuthorityError, match="no name constraints"):
        NameConstraints.read(Authority.create("zkp.local", now=NOW).roots[0])
