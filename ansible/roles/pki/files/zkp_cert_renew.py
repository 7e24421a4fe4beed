"""Keeps this host's certificates: asks for new ones, and puts them to use when it is time.

Run by the playbook and, every few hours, by zkp-cert-renew.timer. Each identity of the host has a manifest,
`/etc/zkp/renewal/NAME.json`. Beside the files in use, its directory has `next/`, which root alone may open: a key
made here, the request for its certificate, and, once the authority has signed it, that certificate. So a renewal
lies ready long before it is due, and only this host is needed to start using it.

    keep FILE      ask for a certificate where one is wanted, in JSON, or else do as `install` does
    install FILE…  take `next/` into use where it is due, and the latest roots and revocation lists
"""

import argparse
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from pki.errors import PkiError
from pki.files import TlsFiles, read_file

try:
    from pki.ca.csr import SigningRequest, create_request
    from pki.ca.profiles import renewal_at
    from pki.checks.inspection import Expectation, covers, inspect, read_chain
    from pki.tls.credential import Credential
    from pki.x509.crl import RevocationLists
    from pki.x509.identity import Role, identity_of
    from pki.x509.name_constraints import parse_host
except ModuleNotFoundError:
    # Release 0.1, which a host has until it is upgraded, or again after a downgrade: renewal must not stop there.
    from pki.credential import Credential  # type: ignore[import-not-found,no-redef]
    from pki.identity import Role, identity_of  # type: ignore[import-not-found,no-redef]
    from pki.inspection import (  # type: ignore[import-not-found,no-redef]
        Expectation,
        covers,
        inspect,
        read_chain,
    )
    from pki.profiles import renewal_at  # type: ignore[import-not-found,no-redef]
    from pki.requests import Request as SigningRequest  # type: ignore[import-not-found,no-redef]
    from pki.requests import ask as create_request  # type: ignore[import-not-found,no-redef]
    from pki.revocation import RevocationLists  # type: ignore[import-not-found,no-redef]
    from pki.scope import parse_host  # type: ignore[import-not-found,no-redef]

DIRECTORY = Path("/etc/zkp/renewal")
COMBINED = "combined.pem"
"""Certificate and key in one file, for programs that want them so."""
URGENT = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One identity of this host. `reload` is the command after which its users have the new files."""

    name: str
    role: Role
    hosts: tuple[str, ...]
    directory: Path
    owner: str
    group: str
    combined: bool
    reload: tuple[str, ...]
    bundle: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `PkiError` for anything that the playbook did not write."""
        try:
            said: dict[str, Any] = json.loads(read_file(path))
            return cls(
                name=said["name"],
                role=Role(said["role"]),
                hosts=tuple(said["hosts"]),
                directory=Path(said["directory"]),
                owner=said["owner"],
                group=said["group"],
                combined=said["combined"],
                reload=tuple(said["reload"]),
                bundle=path.parent,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PkiError(f"{path} is no manifest ({error}): run the playbook") from None

    @property
    def next(self) -> Path:
        """What is to come into use."""
        return self.directory / "next"

    def faults(self, directory: Path, now: datetime) -> list[str]:
        """Why the certificate in `directory` is no good for this identity with the latest bundle; [] if it is."""
        try:
            lists = self.bundle / "crl.pem"
            expected = Expectation(
                roots=read_chain(self.bundle / "ca.pem"),
                lists=RevocationLists.read(read_file(lists)) if lists.exists() else None,
                hosts=self.hosts,
                role=self.role,
                name=self.name,
            )
            found = list(inspect(read_chain(directory / "certificate.pem"), expected, now).faults)
            if not found:
                files = TlsFiles(directory / "certificate.pem", directory / "key.pem", self.bundle / "ca.pem")
                Credential.read(files, now)
        except PkiError as error:
            return [str(error)]
        return found


def prepare(manifest: Manifest, now: datetime, *, dry_run: bool) -> dict[str, object]:
    """Make a key and a request where a certificate is wanted and none lies ready.

    One is wanted from a third of the life of the one in use: so whatever the day of a run, this host can look
    after itself for the two thirds of a life that follow. One is wanted at once where the one in use was issued
    before certificates had the DNS name of their identity.
    """
    reasons = manifest.faults(manifest.directory, now) or _outdated(manifest.directory)
    if not reasons and not _past(manifest.directory, now, thirds=1):
        return {"changed": False, "wanted": False, "reason": "", "request": ""}
    ready = not manifest.faults(manifest.next, now) and not _outdated(manifest.next)
    if ready and not _past(manifest.next, now, thirds=1):
        return {"changed": False, "wanted": False, "reason": "", "request": ""}
    changed = not _asked(manifest)
    if changed and not dry_run:
        _ask(manifest)
    request = manifest.next / "request.csr"
    return {
        "changed": changed,
        "wanted": True,
        "reason": reasons[0] if reasons else "a third of its life is over",
        "request": request.read_text("ascii") if request.exists() else "",
    }


def keep(manifest: Manifest, now: datetime, *, dry_run: bool) -> dict[str, object]:
    """What `prepare` says; where no certificate is wanted of the authority, what lies ready is taken into use."""
    prepared = prepare(manifest, now, dry_run=dry_run)
    if not prepared["wanted"] and not dry_run:
        prepared["changed"] = install(manifest, now) or prepared["changed"]
    return prepared


def install(manifest: Manifest, now: datetime) -> bool:
    """Whether anything was taken into use."""
    target = manifest.directory
    contents: dict[str, bytes] = {}
    due = bool(manifest.faults(target, now)) or now >= renewal_at(_leaf(target)) or _superseded(manifest)
    if due and (manifest.next / "certificate.pem").exists():
        refused = manifest.faults(manifest.next, now)
        if refused:
            raise PkiError(f"{manifest.name}: the renewal cannot be used: {refused[0]}")
        # The key first: a reader between the two finds a pair that does not match, and keeps the old one.
        contents = {name: read_file(manifest.next / name) for name in ("key.pem", "certificate.pem")}
    elif (target / "key.pem").exists():
        contents["key.pem"] = read_file(target / "key.pem")  # its mode is corrected if it was loosened
    for name in ("ca.pem", "crl.pem"):
        if (manifest.bundle / name).exists():
            contents[name] = read_file(manifest.bundle / name)
    if manifest.combined:
        pair = [contents.get(name) or read_file(target / name) for name in ("certificate.pem", "key.pem")]
        contents[COMBINED] = b"".join(pair)
    changed = [_replace(manifest, name, data) for name, data in contents.items()]
    if "certificate.pem" in contents:
        shutil.rmtree(manifest.next)
    if any(changed) and manifest.reload:
        subprocess.run(manifest.reload, check=True, stdin=subprocess.DEVNULL)
    return any(changed)


def _past(directory: Path, now: datetime, *, thirds: int) -> bool:
    leaf = _leaf(directory)
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return now >= leaf.not_valid_before_utc + life * thirds / 3


def _outdated(directory: Path) -> list[str]:
    """Why other TLS stacks can refuse a certificate that this network accepts; [] if none does.

    Uses only what every release has: until the host is upgraded, its own release may be older than this program.
    """
    leaf = _leaf(directory)
    identity = identity_of(leaf)
    name = f"{identity.name}.{identity.trust_domain}"
    return [] if covers(leaf, name) else [f"it lacks the DNS name {name}"]


def _superseded(manifest: Manifest) -> bool:
    """Whether what lies ready has the DNS name that the certificate in use was issued without."""
    if not (manifest.next / "certificate.pem").exists():
        return False
    return bool(_outdated(manifest.directory)) and not _outdated(manifest.next)


def _leaf(directory: Path) -> x509.Certificate:
    return read_chain(directory / "certificate.pem")[0]


def _asked(manifest: Manifest) -> bool:
    """Whether a request for this name and these hosts waits for the authority."""
    try:
        request = SigningRequest.read(read_file(manifest.next / "request.csr"))
    except PkiError:
        return False
    hosts = {str(parse_host(host).value) for host in manifest.hosts}
    same = request.names == (manifest.name,) and request.hosts == hosts
    return same and (manifest.next / "key.pem").exists() and not (manifest.next / "certificate.pem").exists()


def _ask(manifest: Manifest) -> None:
    asked = create_request(manifest.name, manifest.hosts)
    shutil.rmtree(manifest.next, ignore_errors=True)
    manifest.next.mkdir(mode=0o700)
    _write(manifest.next / "key.pem", asked.key_pem, 0o600, os.geteuid(), os.getegid())
    _write(manifest.next / "request.csr", asked.request_pem, 0o644, os.geteuid(), os.getegid())


def _replace(manifest: Manifest, name: str, data: bytes) -> bool:
    """Put a file in its place unless it is there just so; whether it was not."""
    path = manifest.directory / name
    uid, gid, mode = os.geteuid(), os.getegid(), 0o644  # root's, on a host
    if name in {"key.pem", COMBINED}:
        uid, gid = pwd.getpwnam(manifest.owner).pw_uid, grp.getgrnam(manifest.group).gr_gid
        mode = 0o640 if uid == 0 and gid != 0 else 0o600  # PostgreSQL's rule, and ours
    try:
        status = path.stat()
        held = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        if held == (uid, gid, mode) and path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    _write(path, data, mode, uid, gid)
    return True


def _write(path: Path, data: bytes, mode: int, uid: int, gid: int) -> None:
    """Write the file atomically, never readable by others."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    draft.rename(path)


def _warn(manifest: Manifest, now: datetime) -> bool:
    """Say on the journal that no renewal has come; whether it is urgent."""
    leaf = _leaf(manifest.directory)
    if now < renewal_at(leaf):
        return False
    left = leaf.not_valid_after_utc - now
    print(
        f"warning: the certificate of {manifest.name} ends in {left.total_seconds() / 86400:.1f} days and no renewal "
        "lies ready: run `ansible-playbook site.yml --tags pki` on the controller",
        file=sys.stderr,
    )
    return left < URGENT


def _install_all(paths: Sequence[Path], now: datetime) -> int:
    """Each by itself: one identity that cannot be renewed keeps no other from it."""
    changed, failed = [], False
    for path in paths or sorted(DIRECTORY.glob("*.json")):
        try:
            manifest = Manifest.read(path)
            if install(manifest, now):
                changed.append(manifest.name)
            failed |= _warn(manifest, now)
        except (PkiError, OSError, KeyError, subprocess.CalledProcessError) as error:
            print(f"error: {path.stem}: {' '.join(str(error).split())}", file=sys.stderr)
            failed = True
    print(json.dumps({"changed": bool(changed), "renewed": changed}))
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 something failed or is urgent, 2 used wrongly."""
    parser = argparse.ArgumentParser(
        description="Example: zkp_cert_renew.py install\n\nTake renewed certificates into use.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("keep", help="ask for a certificate where one is wanted, or else install")
    asking.add_argument("manifest", type=Path)
    asking.add_argument("--dry-run", action="store_true", help="only say what would be done")
    installing = commands.add_parser("install", help="take what is due into use")
    installing.add_argument("manifests", type=Path, nargs="*", help=f"by default all in {DIRECTORY}")
    given = parser.parse_args(arguments)
    now = datetime.now(UTC)
    if given.command == "install":
        return _install_all(given.manifests, now)
    try:
        print(json.dumps(keep(Manifest.read(given.manifest), now, dry_run=given.dry_run)))
    except (PkiError, OSError, KeyError, subprocess.CalledProcessError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
