"""Judges the names and addresses of an inventory, and the configurations of its daemons. Run on the controller.

Reads JSON, and prints a JSON list of faults, each as `<host>: <what is wrong>; <what to do>`:

    {"trust_domain": "zkp.local", "domains": [], "networks": ["192.168.1.0/24"], "authority": "/srv/authority",
     "hosts": {"host-1": {"address": "192.168.1.11", "more_addresses": [], "names": [],
                          "ids": {"coordinator": "coordinator-host-1"}, "chosen": {}}}}

    {"configurations": {"host-1": {"coordinator": "node: …"}}}

The daemons' own code and that of `pki` decide, so that what passes here is not refused on a host that was already
changed. `authority` need not exist yet; `chosen` are the ids that the inventory sets (pki_names).
"""

import ipaddress
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from coordinator.config.settings import ALIASES, CoordinatorSettings
from coordinator.config.settings import PREFIX as COORDINATOR
from gateway.config import PREFIX as GATEWAY
from gateway.config import GatewaySettings
from pki.errors import AuthorityError, IdentityError, PkiError
from pki.store.directory import AuthorityDirectory
from pki.store.store import AuthorityStore
from pki.x509.identity import Role, check_name, check_trust_domain
from pki.x509.name_constraints import NameConstraints, parse_host, parse_network
from worker.config import PREFIX as WORKER
from worker.config import WorkerSettings
from zkp.daemon.settings import Name, Section, SettingsError, load
from zkp.daemon.settings.values import Address

_SCHEMAS: Mapping[str, tuple[type[Section], str, Mapping[str, str]]] = {
    "coordinator": (CoordinatorSettings, COORDINATOR, ALIASES),
    "worker": (WorkerSettings, WORKER, {}),
    "gateway": (GatewaySettings, GATEWAY, {}),
}
_SECRETS = {"DB_PASSWORD": "checked"}  # what configurations refer to, and only the host knows
_ITSELF = "is one at which every other host would reach itself"
_DIALLED = "set ansible_host or zkp_address to the address that others dial"


def inventory_faults(said: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with ids and addresses, host by host, and between hosts."""
    hosts: Mapping[str, Mapping[str, Any]] = said["hosts"]
    for name, host in hosts.items():
        yield from _name_faults(name, host, str(said["trust_domain"]))
        yield from _address_faults(name, host)
    yield from _repeated_ids(hosts)
    yield from _repeated_addresses(hosts)
    yield from _authority_faults(said)


def _name_faults(name: str, host: Mapping[str, Any], trust_domain: str) -> Iterator[str]:
    """A host's ids are names in certificates, each also as the DNS name ID.TRUST-DOMAIN."""
    ids: Mapping[str, str] = host["ids"]
    derived = [role for role in ids if role not in host["chosen"]]
    if _ip(name) is not None and derived:
        yield (
            f"{name}: the name of the host is an address, from which no id can be derived; "
            f"write it as a name with an address: `host-1: {{ansible_host: {name}}}`"
        )
        return
    bad = [f"{role} id {text!r}" for role, text in ids.items() if not _is_id(str(text), trust_domain)]
    if bad:
        yield (
            f"{name}: {', '.join(bad)} cannot be the name in a certificate (1 to 63 of a-z, 0-9 and '-'); "
            "rename the host in the inventory, or set pki_names for it"
        )


def _is_id(text: str, trust_domain: str) -> bool:
    try:
        check_name(text)
        TypeAdapter(Name).validate_python(text)
        parse_host(f"{text}.{trust_domain}")
    except (IdentityError, AuthorityError, ValidationError):
        return False
    return True


def _address_faults(name: str, host: Mapping[str, Any]) -> Iterator[str]:
    if what := _wrong(str(host["address"])):
        yield f"{name}: address {host['address']} {what}; {_DIALLED}"
    for text in host["more_addresses"]:
        what = "is not an IPv4 or IPv6 address" if _ip(str(text)) is None else _wrong(str(text))
        if what:
            yield f"{name}: address {text} {what}; correct zkp_more_addresses"
    for text in host["names"]:
        try:
            parse_host(str(text))
        except AuthorityError as error:
            yield f"{name}: {error}; correct pki_hosts or zkp_loadbalancer_address"


def _wrong(text: str) -> str:
    """What is wrong with an address that other hosts dial; empty for a good one."""
    address = _ip(text)
    if address is None:
        return _wrong_name(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    reasons = {
        "is link-local or has a zone, and means nothing on other hosts": "%" in text or address.is_link_local,
        _ITSELF: address.is_unspecified or address.is_loopback,
        "is a multicast address": address.is_multicast,
        f"is an IPv4 address in IPv6 notation: write {mapped}": mapped is not None,
    }
    return next((what for what, applies in reasons.items() if applies), "")


def _wrong_name(text: str) -> str:
    if text.lower().removesuffix(".") == "localhost":
        return _ITSELF
    if text.startswith("["):
        return "is in brackets, which belong to an address with a port"
    try:
        parse_host(text)
        Address.parse(f"{text}:1")
    except (AuthorityError, ValueError):
        return "is not an IP address, and not a DNS name that a certificate can carry (no port, '_' or final dot)"
    return ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _repeated_ids(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    holders: dict[str, tuple[str, str]] = {}
    for name, host in hosts.items():
        for role, text in host["ids"].items():
            other, held = holders.setdefault(str(text), (name, role))
            if held != role:
                yield f"{name}: the {role} id {text} is also the {held} id of {other}; set pki_names for one of them"
            elif other != name:
                yield (
                    f"{other} and {name}: have the same {role} id {text}; give the hosts different names, "
                    "or set pki_names for one of them"
                )


def _repeated_addresses(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    holders: dict[str, str] = {}
    for name, host in hosts.items():
        for text in (host["address"], *host["more_addresses"]):
            other = holders.setdefault(str(_ip(str(text)) or str(text).lower()), name)
            if other != name:
                yield f"{other} and {name}: have the same address {text}; correct ansible_host of one of them"


def _authority_faults(said: Mapping[str, Any]) -> Iterator[str]:
    """Whether the authority, that which exists or that which would be made, certifies every host."""
    place = Path(said["authority"]).expanduser()
    try:
        check_trust_domain(str(said["trust_domain"]))
        exists = (place / "ledger.jsonl").exists()
        store = AuthorityStore(AuthorityDirectory(place)) if exists else None
        scope = store.scope if store else _new_scope(said)
    except PkiError as error:
        yield f"the inventory: {error}"
        return
    if scope.trust_domain != said["trust_domain"]:
        yield (
            f"the inventory: zkp_trust_domain is {said['trust_domain']}, and the authority in {place} is of "
            f"{scope.trust_domain}; correct zkp_trust_domain, or set zkp_authority to another directory"
        )
        return
    for name, host in said["hosts"].items():
        addresses = [text for text in map(str, (host["address"], *host["more_addresses"])) if not _wrong(text)]
        for text in dict.fromkeys((*addresses, *map(str, host["names"]))):
            yield from _scope_faults(name, text, scope, None if store is None else place)
        for role, text in host["ids"].items():
            held = None if store is None else store.register.role_of(str(text))
            if held not in {None, Role(role)}:
                yield f"{name}: the authority knows {text} as a {held}, not as a {role}; set pki_names for this host"


def _new_scope(said: Mapping[str, Any]) -> NameConstraints:
    return NameConstraints.of(
        str(said["trust_domain"]), said["domains"], [parse_network(str(net)) for net in said["networks"]]
    )


def _scope_faults(name: str, text: str, scope: NameConstraints, place: Path | None) -> Iterator[str]:
    try:
        host = parse_host(text)
    except AuthorityError:
        return  # reported above
    try:
        scope.check(host)
    except AuthorityError as error:
        if place is not None:
            yield f"{name}: {error} (the authority is in {place})"
        elif _ip(text) is None:
            yield f"{name}: {text} is not below zkp_trust_domain; set an address, or add its domain to pki_domains"
        else:
            yield f"{name}: {text} is outside zkp_networks ({', '.join(map(str, scope.networks))}); add its network"


def configuration_faults(configurations: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What each daemon would say of its configuration, the files that it names left aside."""
    with tempfile.TemporaryDirectory() as directory:
        for name, told in configurations.items():
            for daemon, text in told.items():
                schema, prefix, aliases = _SCHEMAS[daemon]
                path = Path(directory) / f"{daemon}.yaml"
                path.write_text(text, "utf-8")
                try:
                    load(schema, path, prefix, _SECRETS, aliases)
                except SettingsError as error:
                    said = str(error).replace(f"{directory}/", "")
                    yield f"{name}: {said}; correct the variable of the inventory that sets it"


def faults(said: Mapping[str, Any]) -> Iterable[str]:
    """Every fault once, in the order of the hosts."""
    found = inventory_faults(said) if "hosts" in said else configuration_faults(said["configurations"])
    return dict.fromkeys(found)


if __name__ == "__main__":
    json.dump(list(faults(json.load(sys.stdin))), sys.stdout)
