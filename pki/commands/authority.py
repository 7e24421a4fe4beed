"""`pki init`, `bundle`, `rotate-issuer` and `rotate-root`."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives import hashes

from pki.ca.authority import Authority
from pki.checks import expiry
from pki.commands.common import (
    AuthorityOption,
    DevelopmentOption,
    JsonOption,
    NoPassphraseOption,
    PassphraseFileOption,
    app,
    new_passphrase,
    now,
    open_store,
    passphrase,
    print_json,
    user,
    warn_of_clock,
)
from pki.store import rotation
from pki.store.directory import AuthorityDirectory
from pki.store.state import Ca
from pki.store.store import AuthorityStore
from pki.timespans import day
from pki.x509.name_constraints import parse_network
from pki.x509.serials import format_serial

SwitchOption = Annotated[bool, typer.Option("--switch", help="Second step: the next issuing CA signs from now on.")]
FinishOption = Annotated[bool, typer.Option("--finish", help="Last step: the old one is no longer accepted.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Finish even if members would be cut off.")]


@app.command(short_help="Make a root and an issuing CA.")
def init(
    directory: Annotated[Path, typer.Argument(help="Directory to create.")],
    *,
    trust_domain: Annotated[str, typer.Option(help="Name of the network, a DNS name: zkp.example.")],
    domain: Annotated[
        list[str] | None, typer.Option(help="DNS domain of hosts outside the trust domain; repeat for more.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network of hosts, like 192.168.1.0/24; repeat for more.")
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    no_passphrase: NoPassphraseOption = False,
    development: DevelopmentOption = False,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki init ca --trust-domain zkp.example --network 192.168.1.0/24

    Make a root (10 years) and an issuing CA (1 year) in DIRECTORY. Certificates can be issued for hosts under
    the trust domain, the --domain and --network given, and for localhost.
    """
    moment = now()
    networks = [parse_network(text) for text in network or ()]
    authority = Authority.create(trust_domain, now=moment, domains=domain or (), networks=networks)
    phrase = new_passphrase(passphrase_file, plain=no_passphrase, development=development)
    AuthorityStore.create(directory, authority, passphrase=phrase, now=moment, by=user())
    root, issuer = authority.roots[0], authority.issuer.certificate
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "trust_domain": trust_domain,
                "root_sha256": root.fingerprint(hashes.SHA256()).hex(),
                "root_not_after": root.not_valid_after_utc.isoformat(),
                "issuer_not_after": issuer.not_valid_after_utc.isoformat(),
            }
        )
        return
    print(f"authority for {trust_domain} in {directory}")
    print(f"root until {day(root.not_valid_after_utc)}, SHA-256 {root.fingerprint(hashes.SHA256()).hex()}")
    print(f"issuing CA until {day(issuer.not_valid_after_utc)}")
    if development:
        print("development only: the root's key is not encrypted")
    else:
        print(f"next: move {directory / 'root.key'} to a safe place offline; issuing does not need it")


@app.command(short_help="Write the trusted roots and the CRLs.")
def bundle(
    authority: AuthorityOption,
    *,
    out: Annotated[Path, typer.Option(help="Write OUT/ca.pem and OUT/crl.pem.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki bundle --authority ca --out dist

    Write ca.pem (every trusted root) and crl.pem (the revocation lists of every CA, current), to be put on every
    host beside its certificate.
    """
    files = open_store(authority).write_bundle(out, now=now(), by=user())
    if as_json:
        print_json([str(file) for file in files])
        return
    for file in files:
        print(file)


@app.command(short_help="Replace the issuing CA without interruption.")
def rotate_issuer(
    authority: AuthorityOption,
    *,
    switch: SwitchOption = False,
    finish: FinishOption = False,
    force: ForceOption = False,
    domain: Annotated[list[str] | None, typer.Option(help="Permit this DNS domain, too; repeat for more.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Permit this network, too; repeat for more.")] = None,
    root_key: Annotated[Path | None, typer.Option(help="The root's key, when it is kept elsewhere.")] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki rotate-issuer --authority ca --root-key /media/safe/root.key
      pki bundle --authority ca --out dist             # hand out to every host, and reload
      pki rotate-issuer --authority ca --switch
      pki renew --due --authority ca --out certs       # hand out to every host, and reload
      pki rotate-issuer --authority ca --finish --root-key /media/safe/root.key

    Make another issuing CA, let it sign, and retire the old one. The first and the last step need the root's key.
    """
    _check_steps(switch=switch, finish=finish, force=force, first_only=bool(domain or network))
    store = warn_of_clock(AuthorityStore(AuthorityDirectory(authority)))
    key = rotation.RootKey(lambda: passphrase(passphrase_file), root_key)
    if finish:
        done = rotation.finish_issuer(store, key, now=now(), by=user(), force=force)
    elif switch:
        done = [rotation.switch(store, now=now(), by=user())]
    else:
        networks = [parse_network(text) for text in network or ()]
        done = [rotation.prepare_issuer(store, key, now=now(), by=user(), domains=domain or (), networks=networks)]
    _report(store, done, finished=finish, as_json=as_json)


@app.command(short_help="Replace the root without interruption.")
def rotate_root(
    authority: AuthorityOption,
    *,
    switch: SwitchOption = False,
    finish: FinishOption = False,
    force: ForceOption = False,
    passphrase_file: PassphraseFileOption = None,
    no_passphrase: NoPassphraseOption = False,
    development: DevelopmentOption = False,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki rotate-root --authority ca
      pki bundle --authority ca --out dist             # hand out to every host, and reload
      pki rotate-root --authority ca --switch
      pki renew --due --authority ca --out certs       # hand out to every host, and reload
      pki rotate-root --authority ca --finish
      pki bundle --authority ca --out dist             # without the old root: hand out, and reload

    Make another root with an issuing CA under it; both roots are trusted until --finish. The old root's key is
    not needed. The passphrase is for the new one.
    """
    _check_steps(switch=switch, finish=finish, force=force, first_only=bool(passphrase_file or no_passphrase))
    store = warn_of_clock(AuthorityStore(AuthorityDirectory(authority)))
    if finish:
        done = rotation.finish_root(store, now=now(), by=user(), force=force)
    elif switch:
        done = [rotation.switch(store, now=now(), by=user())]
    else:
        phrase = new_passphrase(passphrase_file, plain=no_passphrase, development=development)
        done = [rotation.prepare_root(store, phrase, now=now(), by=user())]
        root = store.directory.key_path(store.register.roots[-1])
        if not as_json:
            print(f"new root's key in {root}: move it to a safe place offline")
    _report(store, done, finished=finish, as_json=as_json)


def _check_steps(*, switch: bool, finish: bool, force: bool, first_only: bool) -> None:
    if switch and finish:
        raise typer.BadParameter("--switch and --finish are two steps: give one")
    if force and not finish:
        raise typer.BadParameter("--force belongs to --finish")
    if first_only and (switch or finish):
        raise typer.BadParameter("--domain, --network and a new passphrase belong to the first step")


def _report(store: AuthorityStore, done: list[Ca], *, finished: bool, as_json: bool) -> None:
    step = expiry.next_step(store.register)
    if as_json:
        cas = [
            {
                "name": ca.stem,
                "subject": ca.certificate.subject.rfc4514_string(),
                "serial": format_serial(ca.serial),
                "not_after": ca.certificate.not_valid_after_utc.isoformat(),
            }
            for ca in done
        ]
        print_json({"retired" if finished else "ready": cas, "next": step})
        return
    for ca in done:
        print(f"{ca.stem} ({ca.certificate.subject.rfc4514_string()}) {'retired' if finished else 'ready'}")
    print(f"next: {step or 'hand out `pki bundle` everywhere'}")
