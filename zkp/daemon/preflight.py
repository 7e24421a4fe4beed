"""Checks of the files and directories in a daemon's configuration, before it listens.

Each check yields faults with the configuration's key. Nothing is changed, and nothing stays open.
"""

import ipaddress
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki.tls.credential import read_private
from pki.tls.material import TlsError, TlsFiles, TlsMaterial
from pki.x509.identity import Identity, Role
from zkp.daemon.settings import SettingFault, TlsSettings

CRL_NAME = "crl.pem"
"""Default name of the revocation lists, in the directory of the roots."""


@dataclass(frozen=True, slots=True)
class NamedMember:
    """Identity of a daemon according to its configuration. `key` is the key that holds the name."""

    key: str
    trust_domain: str
    role: Role
    name: str


def tls_files(tls: TlsSettings) -> TlsFiles:
    """Return the files of the `tls` section as `TlsFiles`."""
    crl = tls.ca.with_name(CRL_NAME) if tls.crl is None else tls.crl
    return TlsFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca, crl=crl)


def certificate(tls: TlsSettings, member: NamedMember, hosts: Mapping[str, str]) -> Iterator[SettingFault]:
    """Check that the certificate is valid, names this member, and covers `hosts` (key → advertised host)."""
    yield from readable_file("tls.crl", tls.crl)
    try:
        material = TlsMaterial.load(tls_files(tls))
    except TlsError as error:
        yield SettingFault(_key_of_file(tls, str(error)), str(error), "")
        return
    wanted = Identity(member.trust_domain, member.role, member.name)
    if material.identity != wanted:
        yield SettingFault(
            "tls.certificate",
            f"{tls.certificate} names {material.identity}, and this is {wanted}",
            f"name the certificate of {member.name}, or correct {member.key}",
        )
        return
    names = _subject_names(material.certificate)
    for key, host in hosts.items():
        if _normal(host) not in names:
            hint = f"issue it again with --host {host}, or correct {key}"
            yield SettingFault("tls.certificate", f"{tls.certificate} does not cover {host} ({key})", hint)


def writable_directory(key: str, path: Path) -> Iterator[SettingFault]:
    """Check that this process can create files in the directory."""
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileNotFoundError:
        if not path.exists():
            yield SettingFault(key, f"{path} does not exist", "create it, owned by this daemon's user")
            return
        yield SettingFault(key, f"{path} does not accept new files", "give a directory on an ordinary disk")
    except OSError as error:
        yield SettingFault(key, f"{path} cannot be written ({error.strerror})", "let this daemon's user write there")


def readable_directory(key: str, path: Path) -> Iterator[SettingFault]:
    """Check that this process can list the directory."""
    try:
        with os.scandir(path):
            pass
    except FileNotFoundError:
        yield SettingFault(key, f"{path} does not exist", "create and fill it, or correct the path")
    except OSError as error:
        yield SettingFault(key, f"{path} cannot be read ({error.strerror})", "let this daemon's user read it")


def readable_file(key: str, path: Path | None) -> Iterator[SettingFault]:
    """Check that this process can read the file, if one is configured."""
    if path is None:
        return
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        yield SettingFault(key, f"{path} does not exist", "put the file there, or correct the path")
    except OSError as error:
        yield SettingFault(key, f"{path} cannot be read ({error.strerror})", "let this daemon's user read it")


def private_file(key: str, path: Path | None) -> Iterator[SettingFault]:
    """Check that only this process's user can read the file, if one is configured."""
    if path is None:
        return
    try:
        read_private(path)
    except TlsError as error:
        yield SettingFault(key, str(error), "")


def _key_of_file(tls: TlsSettings, message: str) -> str:
    """Return the key of the file that the message mentions first."""
    mentions = {
        f"tls.{name}": message.find(str(path))
        for name, path in (
            ("certificate", tls.certificate),
            ("key", tls.key),
            ("ca", tls.ca),
            ("crl", tls_files(tls).crl),
        )
    }
    found = {key: position for key, position in mentions.items() if position >= 0}
    return min(found, key=lambda key: found[key], default="tls")


def _subject_names(leaf: x509.Certificate) -> set[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    return {_normal(host) for host in hosts} | {str(address) for address in addresses}


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().removesuffix(".")
