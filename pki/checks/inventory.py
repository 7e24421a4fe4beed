"""Members of a network from a YAML inventory, in the format of Ansible inventories.

    coordinators:                 # a group named after a role, in the singular or plural, gives its hosts that role
      hosts:
        coordinator-1: {ansible_host: 192.168.1.10, pki_hosts: [node1.zkp.example]}
    database:
      vars: {pki_role: postgres}  # other groups set their role; groups without one are ignored
      hosts:
        coordinator-1:            # a second role makes a second identity: postgres-coordinator-1
      children: …                 # groups in groups are followed

The name of an identity is ROLE-HOST, or HOST if that begins with the role; `pki_names: {postgres: database-1}`
overrides it. HOST is the host's name up to its first dot. The hosts that a certificate is for are
`ansible_host` (or the host's name, if it has a dot) and what `pki_hosts` adds.
"""

import ipaddress
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pki.ca.profiles import PROFILES
from pki.ca.specification import CertificateSpec
from pki.errors import AuthorityError, IdentityError, InventoryError
from pki.x509.identity import Role, check_name
from pki.x509.name_constraints import parse_host

_GROUP_KEYS = {"hosts", "children", "vars"}
_GROUPS = {role.value: role for role in Role} | {f"{role.value}s": role for role in Role}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the same, much faster
    """YAML loader that refuses duplicate keys and reads tags such as !vault as null."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is duplicated", node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.add_multi_constructor("!", lambda *_: None)


@dataclass(slots=True)
class _Host:
    """Roles and variables of one host, merged from all groups."""

    roles: dict[Role, None] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)


def read_inventory(path: Path) -> tuple[CertificateSpec, ...]:
    """Return a specification for each identity, in the order of the file; raise `InventoryError` if it is invalid."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InventoryError(f"{path}: {reason}: name a YAML inventory") from None
    try:
        return parse_inventory(text)
    except InventoryError as error:
        raise InventoryError(f"{path}: {error}") from None


def parse_inventory(text: str) -> tuple[CertificateSpec, ...]:
    """Return the specifications of an inventory as text; raise `InventoryError` if it is invalid."""
    try:
        groups = yaml.load(text, _Loader)  # noqa: S506  # derived from SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date, for one
        raise InventoryError(f"no YAML that can be read ({' '.join(str(error).split())}): correct it") from None
    hosts: dict[str, _Host] = {}
    for name, body in _mapping("the inventory", groups).items():
        _walk(str(name), body, {}, (), hosts)
    specs = [spec for name, host in hosts.items() for spec in _specs(name, host)]
    if not specs:
        raise InventoryError("no host has a role: put hosts into groups such as `coordinators`, or set pki_role")
    for spec in specs:
        if sum(1 for other in specs if other.name == spec.name) > 1:
            raise InventoryError(f"{spec.name} would be two identities: set pki_names for one of its hosts")
    return tuple(specs)


def _walk(
    group: str,
    body: object,
    inherited: Mapping[str, Any],
    roles: tuple[Role, ...],
    hosts: dict[str, _Host],
) -> None:
    parts = _mapping(f"group {group}", body)
    unknown = [str(key) for key in parts if key not in _GROUP_KEYS]
    if unknown:
        raise InventoryError(f"group {group} has {', '.join(unknown)}: a group has hosts, children and vars")
    variables = dict(_mapping(f"vars of {group}", parts.get("vars")))
    own = variables.pop("pki_role", None)
    role = _GROUPS.get(group) if own is None else _role(f"group {group}", own)
    roles = roles if role is None else (*roles, role)
    variables = {**inherited, **variables}
    for name, values in _mapping(f"hosts of {group}", parts.get("hosts")).items():
        if "[" in str(name):
            raise InventoryError(f"group {group}: {name} is a range: write each host by itself")
        host = hosts.setdefault(str(name), _Host())
        host.roles.update(dict.fromkeys(roles))
        host.variables = {**variables, **host.variables, **_mapping(f"host {name}", values)}
    for name, child in _mapping(f"children of {group}", parts.get("children")).items():
        _walk(str(name), child, variables, roles, hosts)


def _specs(host: str, said: _Host) -> Iterator[CertificateSpec]:
    own = said.variables.get("pki_role")
    roles = tuple(said.roles) if own is None else tuple(_role(f"host {host}", one) for one in _listed(own))
    names = _mapping(f"pki_names of {host}", said.variables.get("pki_names"))
    for key in names:
        if key not in roles:
            raise InventoryError(f"host {host}: pki_names names {key}, which is not a role of this host")
    for role in roles:
        try:
            name = str(names.get(role) or _name(host, role))
            check_name(name)
            addresses = tuple(dict.fromkeys(str(parse_host(text).value) for text in _addresses(host, said)))
        except (IdentityError, AuthorityError) as error:
            raise InventoryError(f"host {host}: {error}") from None
        if PROFILES[role].needs_host and not addresses:
            what = f"host {host} is {role.with_article}, which others dial"
            raise InventoryError(f"{what}: give it an ansible_host or pki_hosts")
        yield CertificateSpec(name, role, addresses)


def _name(host: str, role: Role) -> str:
    if _is_address(host):
        raise InventoryError(f"host {host} is an address: name the host, for example pki_names: {{{role}: {role}-1}}")
    label = host.partition(".")[0].lower()
    return label if label.startswith(role) else f"{role}-{label}"


def _addresses(host: str, said: _Host) -> Iterator[str]:
    address = said.variables.get("ansible_host")
    if address is not None:
        yield str(address)
    elif "." in host or _is_address(host):
        yield host
    yield from map(str, _listed(said.variables.get("pki_hosts")))


def _role(where: str, value: object) -> Role:
    try:
        return Role(str(value))
    except ValueError:
        raise InventoryError(f"{where}: {value} is not a role; known roles: {', '.join(Role)}") from None


def _mapping(where: str, value: object) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InventoryError(f"{where} is {type(value).__name__}: write `name: …` lines there")
    return value


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
