"""`pki revoke` and `pki crl`."""

from collections.abc import Container, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from pki.ca.profiles import CRL_LIFE
from pki.commands.common import AuthorityOption, JsonOption, app, names, now, open_store, print_json, user
from pki.store import crls
from pki.store.state import LeafEntry
from pki.timespans import day
from pki.x509.crl import Reason, expiry


@app.command(short_help="Revoke certificates.")
def revoke(
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|SERIAL",
            help="A name (every valid certificate of it) or a serial number.",
            autocompletion=names,
        ),
    ] = None,
    *,
    authority: AuthorityOption,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="All that are still valid although a newer one was issued.")
    ] = False,
    reason: Annotated[Reason | None, typer.Option(help="Reason, stated in the revocation list.")] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki revoke worker-1 --reason key-compromise --authority ca
      pki revoke --superseded --authority ca

    Revoke certificates and sign new revocation lists. Distribute them with `pki bundle`; running coordinators also
    accept a serial number with `zkp admin revoke`.
    """
    if bool(which) is superseded:
        raise typer.BadParameter("Missing NAME or SERIAL: give some, or --superseded")
    store, moment = open_store(authority), now()
    if superseded:
        leaves = list(store.register.superseded(moment))
        why = reason or Reason.SUPERSEDED
    else:
        leaves = [leaf for one in which or () for leaf in store.find(one, moment)]
        why = reason or Reason.UNSPECIFIED
    numbers = store.register.numbers
    revoked = store.revoke(leaves, why, now=moment, by=user())
    taken = {leaf.serial for leaf in revoked}
    leaves = list({leaf.serial: leaf for leaf in (*leaves, *revoked)}.values())
    if as_json:
        print_json(
            [
                {
                    "name": leaf.identity.name,
                    "role": leaf.identity.role,
                    "serial": leaf.record.serial,
                    "reason": why if leaf.serial in taken else store.register.revocations[leaf.serial].reason,
                    "before": leaf.serial not in taken,
                }
                for leaf in leaves
            ]
        )
    else:
        _print_revoked(leaves, taken, signed_again=store.register.numbers != numbers)


def _print_revoked(leaves: Sequence[LeafEntry], taken: Container[int], *, signed_again: bool) -> None:
    """Print what was revoked now (`taken`) or before, and what to do next."""
    for leaf in leaves:
        word = "revoked" if leaf.serial in taken else "was revoked before:"
        print(f"{word} {leaf.identity.role} {leaf.identity.name}, serial {leaf.record.serial}")
    if any(leaf.serial in taken for leaf in leaves):
        print(
            "next: distribute `pki bundle` to every host, and inform running coordinators with `zkp admin "
            "revoke SERIAL`"
        )
    elif signed_again:
        print("the revocation list lacked this, and is signed again; next: hand out `pki bundle` everywhere")
    elif not leaves:
        print("nothing is superseded")


@app.command(short_help="Sign the revocation lists again.")
def crl(
    authority: AuthorityOption,
    *,
    days: Annotated[int, typer.Option(min=1, max=365, help="Validity of the revocation lists.")] = CRL_LIFE.days,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki crl --authority ca

    Sign the revocation list of every issuing CA again. Distributed files carry lists that are at most a
    day old, so this is for networks in which nothing was distributed for a while. Once a list has ended, verifiers
    that have it refuse everybody: `pki status` and others warn a week before.
    """
    store = open_store(authority)
    store.sign_lists(now=now(), by=user(), life=timedelta(days=days))
    found = crls.in_use(store.directory, store.register)
    numbers = store.register.numbers
    if as_json:
        print_json(
            [
                {
                    "name": ca.stem,
                    "number": numbers.get(ca.serial, 0),
                    "revoked": len(one),
                    "next_update": expiry(one).isoformat(),
                }
                for ca, one in found.items()
            ]
        )
        return
    for ca, one in found.items():
        number = numbers.get(ca.serial, 0)
        print(f"list {number} of {ca.stem}: {len(one)} revoked, until {day(expiry(one))}")
    print("next: hand out `pki bundle` everywhere")
