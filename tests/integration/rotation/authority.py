"""Operator of a test network: runs the `pki` command and copies files to each host."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509

from pki import cli
from pki.x509.crl import RevocationLists
from pki.x509.serials import format_serial
from zkp.localcluster.layout import ADMIN, CLIENT, Layout

BUNDLE = ("ca.pem", "crl.pem")


class Operator:
    """Has the authority's directory, and the directory of every member's files."""

    def __init__(self, layout: Layout, members: tuple[str, ...], capture: pytest.CaptureFixture[str]) -> None:
        self._layout = layout
        self._capture = capture
        self.names = (*members, CLIENT, ADMIN)

    def pki(self, *arguments: str) -> str:
        """Run a `pki` command that must succeed; what it printed."""
        self._capture.readouterr()
        status = cli.main([*arguments, "--authority", str(self._layout.pki)])
        out, err = self._capture.readouterr()
        assert status == 0, err
        return out

    def renew(self, *which: str) -> None:
        """New keys and certificates, put where the members read them."""
        self.pki("renew", *which, "--out", str(self._layout.identities))

    def hand_out(self) -> Path:
        """Put roots and revocation lists beside every certificate; where the bundle was written."""
        bundle = self._layout.root / "bundle"
        self.pki("bundle", "--out", str(bundle))
        for name in self.names:
            for part in BUNDLE:
                draft = self.directory(name) / f".{part}.draft"
                shutil.copyfile(bundle / part, draft)
                draft.rename(self.directory(name) / part)
        return bundle

    def directory(self, name: str) -> Path:
        """The member's files."""
        return self._layout.identity(name)

    def serial(self, name: str) -> str:
        """Of the member's certificate on its disk, hexadecimal."""
        return serials(self.directory(name) / "certificate.pem")[0]

    def keep(self, names: tuple[str, ...], place: Path) -> dict[str, Path]:
        """Copies of these members' files, for a thief or a host that was forgotten."""
        kept = {name: place / name for name in names}
        for name, copy in kept.items():
            shutil.copytree(self.directory(name), copy)
        return kept

    def status(self) -> Mapping[str, object]:
        """What `pki status` says."""
        document: Mapping[str, object] = json.loads(self.pki("status", "--json"))
        return document

    def on_disk(self, name: str) -> tuple[set[str], int]:
        """What the member is to have taken up: serial numbers of its leaf and the roots, and how many are listed."""
        directory = self.directory(name)
        leaf, roots = self.serial(name), serials(directory / "ca.pem")
        lists = directory / "crl.pem"
        listed = len(RevocationLists.read(lists.read_bytes()).serials) if lists.exists() else 0
        return {leaf, *roots}, listed


def serials(file: Path) -> list[str]:
    """Of the certificates in a file, hexadecimal."""
    return [format_serial(one.serial_number) for one in x509.load_pem_x509_certificates(file.read_bytes())]
