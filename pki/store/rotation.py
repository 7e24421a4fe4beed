"""Rotation of the issuing CA, or of the root with it, without interruption. It has three steps.

    prepare   create the next issuing CA (and root). The new roots and CRLs are distributed; nothing else changes.
    switch    the next one signs from now on. All members are renewed; leaves of the old one are still accepted.
    finish    retire the old one: its leaves are revoked, its key is removed, its root is no longer trusted.

Without the first step, peers that lack the root of the new CA, or its CRL, would refuse its leaves. Each step can be
repeated after a crash.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pki.ca.authority import create_issuer, create_root
from pki.ca.profiles import CRL_LIFE, ROOT_CRL_LIFE
from pki.ca.signing import CertifiedKey, sign_crl
from pki.errors import StoreError
from pki.store import crls
from pki.store.crls import Crls
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.store.state import AuthorityState, Ca, LeafEntry
from pki.store.store import AuthorityStore
from pki.x509.crl import Reason
from pki.x509.name_constraints import NameConstraints, Network


@dataclass(frozen=True, slots=True)
class RootKey:
    """Location of a root's key if it is not in the authority's directory, and its passphrase."""

    passphrase: Callable[[], bytes]  # asked for only when the key is encrypted
    path: Path | None = None


def prepare_issuer(
    store: AuthorityStore,
    key: RootKey,
    *,
    now: datetime,
    by: str,
    domains: Iterable[str] = (),
    networks: Iterable[Network] = (),
) -> Ca:
    """Create the next issuing CA under the newest root, with `domains` and `networks` permitted in addition."""
    with store.changing():
        _check_idle(store.register, now)
        root = store.register.roots[-1]
        signer = store.directory.root_key(root, key.path, key.passphrase)
        return _add_issuer(store, signer, root, _extend_constraints(store, domains, networks), now=now, by=by)


def prepare_root(store: AuthorityStore, new_passphrase: bytes | None, *, now: datetime, by: str) -> Ca:
    """Create a new root, trusted beside the old one, and an issuing CA under it. The old key is not needed."""
    with store.changing():
        register, scope = store.register, store.scope
        _check_idle(register, now)
        pending = register.roots[-1]
        if len(register.roots) > 1:  # a crash left the new root without its issuing CA
            signer = store.directory.root_key(pending, None, lambda: new_passphrase or b"")
            return _add_issuer(store, signer, pending, scope, now=now, by=by)
        signer = create_root(scope.trust_domain, now=now)
        root = Ca(signer.certificate, register.next_stem("root"))
        first = sign_crl(signer, (), number=1, now=now, life=ROOT_CRL_LIFE)
        store.directory.add(root.stem, signer, first, new_passphrase)
        created = [
            LedgerRecord(LedgerEvent.CREATED, now, by, signer.certificate),
            LedgerRecord(LedgerEvent.CRL, now, by, signer.certificate, number=1),
        ]
        return _add_issuer(store, signer, root, scope, now=now, by=by, created=created)


def switch(store: AuthorityStore, *, now: datetime, by: str) -> Ca:
    """Make the next issuing CA the signing one."""
    with store.changing():
        following = store.register.next
        if following is None:
            raise StoreError("no issuing CA is prepared: begin with `pki rotate-issuer` or `pki rotate-root`")
        if _is_future(following, now):
            begin = f"{following.certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise StoreError(
                f"{following.stem} is not valid before {begin}: check this machine's clock; "
                "if it is right, prepare another with `pki rotate-issuer`"
            )
        store.record([LedgerRecord(LedgerEvent.SWITCHED, now, by, following.certificate)])
    return following


def unrenewed(register: AuthorityState, now: datetime) -> list[LeafEntry]:
    """Return the members whose valid certificate is from an old issuing CA."""
    return [
        leaf
        for leaf in register.members()
        if now < leaf.certificate.not_valid_after_utc and any(ca.signed(leaf.certificate) for ca in register.old)
    ]


def finish_issuer(store: AuthorityStore, key: RootKey, *, now: datetime, by: str, force: bool = False) -> list[Ca]:
    """Retire the old issuing CAs: revoke them and their leaves, and remove their keys.

    The root's key is needed to sign its CRL. `force` also revokes members that were not renewed.
    """
    with store.changing():
        register, directory = store.register, store.directory
        if len(register.roots) > 1:
            raise StoreError("the root is changing too: finish both with `pki rotate-root --finish`")
        root = register.roots[-1]
        leaving = [*register.old, *_with_key_left(store, root)]
        held = directory.revocation_list(root)
        current = held is not None and held.last_update_utc <= now and crls.is_complete(register, root, held, now)
        if not leaving and current:
            raise _nothing_to_finish(register)
        _check_renewed(register, now, force=force)
        signer = directory.root_key(root, key.path, key.passphrase)
        records = _retirement(register, register.old, now, by)
        after = AuthorityState.read([*store.records(), *records])
        fresh = _sign_held(store, after, leaving, now)
        fresh[root] = _root_list(signer, root, after, now)
        store.record([*records, *crls.records(after, fresh, now, by)], fresh)
        for ca in leaving:
            directory.remove_key(ca)
    return leaving


def finish_root(store: AuthorityStore, *, now: datetime, by: str, force: bool = False) -> list[Ca]:
    """Retire the old roots and the issuing CAs under them. No root key is needed."""
    with store.changing():
        register = store.register
        current = register.root_of(register.signing)
        roots = [root for root in register.roots if root != current]
        leaving = [*register.old, *_with_key_left(store, None)]
        if not roots and register.old:
            raise StoreError("the root does not change: finish with `pki rotate-issuer --finish`")
        if not roots and not leaving:
            raise _nothing_to_finish(register)
        if current != register.roots[-1]:
            raise StoreError("leaves still come from the old root: --switch and renew everybody before --finish")
        _check_renewed(register, now, force=force)
        store.record(_retirement(register, (*register.old, *roots), now, by))
        for ca in leaving:
            store.directory.remove_key(ca)
    return [*leaving, *roots]


def _is_future(ca: Ca, now: datetime) -> bool:
    return now < ca.certificate.not_valid_before_utc


def _check_idle(register: AuthorityState, now: datetime) -> None:
    """Raise `StoreError` during a rotation, unless its CA is not valid yet (the clock was ahead) and is replaced."""
    if _is_future(register.next or register.signing, now):
        return
    if register.next is not None:
        raise StoreError(
            f"{register.next.stem} is already prepared: distribute `pki bundle` to every host, then continue "
            "with --switch"
        )
    if register.old:
        raise StoreError(f"{register.old[-1].stem} is still accepted: end the last rotation first, with --finish")


def _nothing_to_finish(register: AuthorityState) -> StoreError:
    if register.next is not None:
        return StoreError(f"{register.signing.stem} still signs: --switch and renew everybody before --finish")
    return StoreError("no rotation is under way: begin with `pki rotate-issuer` or `pki rotate-root`")


def _extend_constraints(
    store: AuthorityStore, domains: Iterable[str], networks: Iterable[Network]
) -> NameConstraints:
    scope = store.scope
    return NameConstraints.of(scope.trust_domain, (*scope.domains, *domains), (*scope.networks, *networks))


def _check_renewed(register: AuthorityState, now: datetime, *, force: bool) -> None:
    late = [leaf.identity.name for leaf in unrenewed(register, now)]
    if late and not force:
        raise StoreError(
            f"{', '.join(late)} would be cut off: renew them first with `pki renew --due`, or give --force"
        )


def _with_key_left(store: AuthorityStore, root: Ca | None) -> list[Ca]:
    """Return retired issuing CAs under `root`, or under no trusted root, whose key a crash left in place."""
    register = store.register
    return [
        ca
        for ca in register.retired
        if not ca.is_root and register.root_of(ca) == root and store.directory.key_path(ca).exists()
    ]


def _retirement(register: AuthorityState, cas: Sequence[Ca], now: datetime, by: str) -> list[LedgerRecord]:
    """Return the records that revoke the remaining leaves of these CAs, then the CAs."""
    left = [
        leaf.certificate
        for leaf in register.leaves
        if any(ca.signed(leaf.certificate) for ca in cas)
        and leaf.serial not in register.revocations
        and now < leaf.certificate.not_valid_after_utc
    ]
    revoked = [
        LedgerRecord(LedgerEvent.REVOKED, now, by, certificate, reason=Reason.SUPERSEDED) for certificate in left
    ]
    return [*revoked, *(LedgerRecord(LedgerEvent.RETIRED, now, by, ca.certificate) for ca in cas)]


def _sign_held(store: AuthorityStore, after: AuthorityState, cas: Iterable[Ca], now: datetime) -> Crls:
    """Sign CRLs of the issuing CAs whose key exists; a CA with a lost key can still be replaced."""
    held = [ca for ca in cas if store.directory.key_path(ca).exists()]
    return crls.sign(store.directory, after, held, now)


def _root_list(
    signer: CertifiedKey, root: Ca, after: AuthorityState, now: datetime
) -> x509.CertificateRevocationList:
    number = crls.next_number(after, root)
    return sign_crl(signer, after.revoked_by(root, now), number=number, now=now, life=ROOT_CRL_LIFE)


def _add_issuer(
    store: AuthorityStore,
    signer: CertifiedKey,
    root: Ca,
    scope: NameConstraints,
    *,
    now: datetime,
    by: str,
    created: Sequence[LedgerRecord] = (),
) -> Ca:
    """Create and record an issuing CA, and renew the CRLs of all."""
    directory, register = store.directory, store.register
    made = create_issuer(signer, scope, now=now)
    issuer = Ca(made.certificate, register.next_stem("issuer"))
    directory.add(issuer.stem, made, sign_crl(made, (), number=1, now=now, life=CRL_LIFE))
    if scope != store.scope:
        directory.write_networks(scope.networks)
    records = [
        *created,
        LedgerRecord(LedgerEvent.CREATED, now, by, made.certificate),
        LedgerRecord(LedgerEvent.CRL, now, by, made.certificate, number=1),
    ]
    fresh = _sign_held(store, register, register.issuers, now)
    if root in register.roots and root.serial not in register.numbers:  # made before there were lists
        fresh[root] = _root_list(signer, root, register, now)
    store.record([*records, *crls.records(register, fresh, now, by)], fresh)
    return issuer
