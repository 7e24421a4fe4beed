"""Expiry of CAs, CRLs and members' certificates, with the command that renews each.

There are two thresholds. *Due* is the time of the regular renewal. *Late* means that the regular renewal did not
happen, and is what monitoring alerts on. A certificate that is not valid yet, because the clock was ahead when it
was signed, is late.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pki.ca.profiles import CRL_LIFE, ISSUER_LIFE, LEAF_LIFE
from pki.store import crls
from pki.store.state import AuthorityState, Ca, LeafEntry
from pki.store.store import AuthorityStore
from pki.x509.compatibility import constrains_uris
from pki.x509.crl import expiry

_MONTH = timedelta(days=30)
# An issuing CA with less than a leaf's validity left shortens new leaves; the same holds for a root and issuing CAs.
_ISSUER_LATE, _ISSUER_DUE = LEAF_LIFE + _MONTH, LEAF_LIFE + 2 * _MONTH
_ROOT_LATE, _ROOT_DUE = ISSUER_LIFE + _MONTH, ISSUER_LIFE + 6 * _MONTH
_LEAF_LATE = 1 / 4  # fraction of its validity
_LIST_LATE, _LIST_DUE = CRL_LIFE * _LEAF_LATE, CRL_LIFE / 3  # as for leaves: a renewal also brings a new CRL


class Level(StrEnum):
    """Urgency of a renewal."""

    OK = "ok"
    DUE = "due"
    LATE = "late"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate or CRL with its expiry. `cure` is a command, empty if nothing is to be done."""

    level: Level
    kind: str  # root, issuing CA, revocation list, or a role
    name: str
    not_after: datetime
    cure: str
    not_yet_valid: bool = False  # signed while the clock was ahead

    @property
    def is_alarming(self) -> bool:
        """Whether monitoring should alert."""
        return self.level in (Level.LATE, Level.EXPIRED)


def expiry_rows(store: AuthorityStore, now: datetime, within: timedelta | None = None) -> list[Row]:
    """Return everything that expires, in order of expiry. `within` replaces the thresholds of *late*."""
    register = store.register
    rows = [
        *(_root_row(root, now, within) for root in register.roots),
        *(_issuer_row(register, ca, now, within) for ca in register.issuers),
        *list_rows(store, now, within),
        *(_leaf_row(register, leaf, now, within) for leaf in register.members()),
    ]
    return sorted(rows, key=lambda row: row.not_after)


def next_step(register: AuthorityState) -> str | None:
    """Return the next step of a rotation in progress, if any."""
    root = "rotate-root" if len(register.roots) > 1 else "rotate-issuer"
    if register.next is not None:
        return f"{register.next.stem} is prepared: hand out `pki bundle` everywhere, then `pki {root} --switch`"
    if register.old or len(register.roots) > 1:
        old = ", ".join(ca.stem for ca in register.old) or register.roots[0].stem
        return f"{old} is still accepted: `pki renew --due` and hand out, then `pki {root} --finish`"
    return None


def _level(now: datetime, not_after: datetime, due: timedelta, late: timedelta, within: timedelta | None) -> Level:
    remaining = not_after - now
    if remaining <= timedelta():
        return Level.EXPIRED
    if remaining < (late if within is None else within):
        return Level.LATE
    return Level.DUE if remaining < due else Level.OK


def _ca_level(ca: Ca, now: datetime, due: timedelta, late: timedelta, within: timedelta | None) -> tuple[Level, bool]:
    """Return the level, and whether the CA is not valid yet, in which case it must be replaced."""
    if now < ca.certificate.not_valid_before_utc:
        return Level.LATE, True
    return _level(now, ca.certificate.not_valid_after_utc, due, late, within), False


def _root_row(root: Ca, now: datetime, within: timedelta | None) -> Row:
    end = root.certificate.not_valid_after_utc
    level, future = _ca_level(root, now, _ROOT_DUE, _ROOT_LATE, within)
    return Row(level, "root", root.stem, end, "" if level is Level.OK else "pki rotate-root", future)


def _issuer_row(register: AuthorityState, ca: Ca, now: datetime, within: timedelta | None) -> Row:
    end = ca.certificate.not_valid_after_utc
    if ca in register.old:  # being retired; it signs no new leaves
        return Row(Level.DUE if now < end else Level.EXPIRED, "issuing CA", ca.stem, end, next_step(register) or "")
    level, future = _ca_level(ca, now, _ISSUER_DUE, _ISSUER_LATE, within)
    if level is Level.OK and constrains_uris(ca.certificate) and register.next is None:  # rustls refuses its leaves
        level = Level.DUE
    return Row(level, "issuing CA", ca.stem, end, "" if level is Level.OK else "pki rotate-issuer", future)


def list_rows(store: AuthorityStore, now: datetime, within: timedelta | None = None) -> Iterator[Row]:
    """Yield the rows of the CRLs."""
    register = store.register
    for ca in (*register.issuers, *register.roots):
        one = store.directory.revocation_list(ca)
        if ca.serial not in register.numbers or now >= ca.certificate.not_valid_after_utc:
            continue
        if one is None:
            yield Row(Level.LATE, "revocation list", f"of {ca.stem}", now, "pki crl")
            continue
        end = expiry(one)
        if ca in register.roots:
            level, cure = _level(now, end, _ISSUER_DUE, _ISSUER_LATE, within), "pki rotate-issuer"
        else:
            level, cure = _level(now, end, _LIST_DUE, _LIST_LATE, within), "pki crl"
        future = one.last_update_utc > now
        if future:
            level = Level.LATE
            cure = "pki rotate-issuer --finish" if ca in register.roots else cure
        elif not crls.is_complete(register, ca, one, now):
            level = Level.LATE
        yield Row(level, "revocation list", f"of {ca.stem}", end, "" if level is Level.OK else cure, future)


def _leaf_row(register: AuthorityState, leaf: LeafEntry, now: datetime, within: timedelta | None) -> Row:
    certificate, name = leaf.certificate, leaf.identity.name
    end = certificate.not_valid_after_utc
    late = (end - certificate.not_valid_before_utc) * _LEAF_LATE
    level = _level(now, end, timedelta(), late, within)
    future = now < certificate.not_valid_before_utc
    if future:
        level = Level.LATE
    elif level is Level.OK and register.is_due(leaf, now):
        level = Level.DUE
    cure = f"pki renew {name}, or pki revoke {name} if it is gone"
    return Row(level, leaf.identity.role, name, end, "" if level is Level.OK else cure, future)
