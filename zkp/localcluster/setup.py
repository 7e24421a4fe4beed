"""Prepares a local cluster: certificate authority, certificates, keys, ports, configuration files."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pki.ca.authority import Authority
from pki.errors import PkiError
from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.identity import Role
from zkp.localcluster import configuration, ports
from zkp.localcluster.configuration import port_of
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.layout import (
    ADMIN,
    CLIENT,
    COORDINATORS,
    GATEWAY,
    PROMETHEUS,
    TRUST_DOMAIN,
    Layout,
    worker_names,
)
from zkp.localcluster.profile import ClusterProfile
from zkp.proofs import ProofsError, circuits
from zkp.proofs.keys import KeyStore

_HOSTS = ("127.0.0.1", "localhost")
_ISSUED_BY = "zkp local"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to prepare; `keys` is the directory of the circuit keys, made if missing."""

    layout: Layout
    keys: Path
    workers: int
    embedded_postgres: bool


@contextlib.contextmanager
def prepared(plan: Plan, before: ClusterProfile | None, report: Callable[[str], None]) -> Iterator[ClusterProfile]:
    """Prepare the cluster, and claim its ports until the context ends; raises `LocalClusterError`."""
    try:
        issue(plan.layout, plan.workers)
        make_keys(plan.keys, report)
    except (PkiError, ProofsError) as error:
        raise LocalClusterError(str(error)) from error
    wanted = [
        port_of(address) for own in configuration.addresses(0, plan.workers).values() for address in own.values()
    ]
    last_time = None if before is None else port_of(before.addresses[COORDINATORS[0]]["raft"]) - ports.RAFT - 1
    with ports.claimed_base(wanted, preferred=last_time) as base:
        found = configuration.addresses(base, plan.workers)
        _write_configurations(plan, found)
        yield ClusterProfile(addresses=found, embedded_postgres=plan.embedded_postgres)


def issue(layout: Layout, workers: int) -> None:
    """Issue a new certificate to every member; the cluster's authority is created if missing."""
    now = datetime.now(UTC)
    if layout.pki.is_dir():
        store = AuthorityStore.open(layout.pki)
    else:
        authority = Authority.create(TRUST_DOMAIN, now=now)
        store = AuthorityStore.create(layout.pki, authority, passphrase=None, now=now, by=_ISSUED_BY)
    specs = [
        *(CertificateSpec(name, Role.COORDINATOR, _HOSTS) for name in COORDINATORS),
        *(CertificateSpec(name, Role.WORKER, _HOSTS) for name in worker_names(workers)),
        CertificateSpec(GATEWAY, Role.GATEWAY, _HOSTS),
        CertificateSpec(CLIENT, Role.CLIENT),
        CertificateSpec(ADMIN, Role.ADMIN),
        CertificateSpec(PROMETHEUS, Role.PROMETHEUS),
    ]
    store.issue(specs, layout.identities, now=now, by=_ISSUED_BY, replace=True)


def make_keys(directory: Path, report: Callable[[str], None]) -> None:
    """Make development keys for every circuit without keys, which takes seconds per circuit."""
    store = KeyStore(directory)
    existing = {record.name for record in store.list()}
    for circuit in circuits.NAMES:
        if circuit not in existing:
            report(f"making development keys of {circuit}")
            store.build(circuit)


def _write_configurations(plan: Plan, found: configuration.Addresses) -> None:
    for name, document in configuration.documents(plan.layout, plan.keys, found).items():
        path = plan.layout.config(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        plan.layout.data(name).mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(configuration.text(document), encoding="utf-8")
        draft.replace(path)
