"""A daemon's certificates while it lives: read again on SIGHUP and when their files change, without a restart.

Files that cannot be used are refused, logged and counted, and the old ones go on. The files of one identity are
replaced one after another, so a change is looked at only once they have been left alone for a moment.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509

from pki.tls.material import TlsError, TlsFiles, TlsMaterial
from pki.x509.serials import format_serial

log = logging.getLogger("zkp.daemon")

_PERIOD_S = 2.0
_SETTLE_S = 0.25
_TRY_AGAIN_S = 60.0  # files that were refused: a clock, or who may read them, can have been put right

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """One certificate in use. kind: "leaf", "issuer" or "root"; serial: hexadecimal; expires: with time zone."""

    kind: str
    serial: str
    expires: datetime


class Certificates:
    """The material, and whoever has to act when it has changed."""

    def __init__(self, material: TlsMaterial, stamp: _Stamp) -> None:
        """stamp: of the files, taken before they were read."""
        self.material = material
        self.loaded: Sequence[LoadedCertificate] = _loaded(material)
        """What is in use now: the leaf, the CAs that come with it, and the trusted roots."""
        self.refused = False
        """Whether the files are others than those in use, because they cannot be used."""
        self._stamp = stamp
        self._changed: list[Callable[[], None]] = []

    @classmethod
    def load(cls, files: TlsFiles) -> Self:
        """Read and check the files; raises TlsError."""
        stamp = _stamp(files)
        return cls(TlsMaterial.load(files), stamp)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this after each reload that brought something new: connections may have to be made anew."""
        self._changed.append(callback)

    def reload(self) -> None:
        """Read the files again now. Raises TlsError, and goes on with the old ones."""
        self.refused = True
        changed = self.material.reload()
        self.refused = False
        if not changed:
            return
        self.loaded = _loaded(self.material)
        log.info(
            "certificates reloaded: %s is valid until %s",
            format_serial(self.material.certificate.serial_number),
            f"{self.material.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        )
        for callback in self._changed:
            callback()

    async def watch(self) -> None:
        """Reload whenever the files have changed, until cancelled."""
        refused_at: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_PERIOD_S * random.uniform(0.75, 1.25))  # noqa: S311 - spreads the look
            again = refused_at is not None and clock() - refused_at >= _TRY_AGAIN_S
            if not again and _stamp(self.material.files) == self._stamp:
                continue
            self._stamp = await self._settled()
            try:
                self.reload()
                refused_at = None
            except TlsError as error:
                refused_at = clock()
                log.error("the changed certificates are not used, the old ones stay: %s", error)

    async def _settled(self) -> _Stamp:
        """The files' stamp once it has stood still for a moment."""
        stamp = _stamp(self.material.files)
        while True:
            await asyncio.sleep(_SETTLE_S)
            before, stamp = stamp, _stamp(self.material.files)
            if stamp == before:
                return stamp


def _stamp(files: TlsFiles) -> _Stamp:
    """What changes when a file does, whether it is written in place or replaced."""
    paths = (files.certificate, files.key, files.ca, files.crl)
    return tuple(None if path is None else _stamp_of(path) for path in paths)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _loaded(material: TlsMaterial) -> list[LoadedCertificate]:
    """Read from the files once more: should they have changed meanwhile, the next look reloads them."""
    files = material.files
    found = [("leaf", material.certificate)]
    try:
        chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
        roots = x509.load_pem_x509_certificates(files.ca.read_bytes())
    except (OSError, ValueError):
        return [_one(kind, certificate) for kind, certificate in found]
    found += [("issuer", certificate) for certificate in chain[1:]]
    found += [("root", certificate) for certificate in roots]
    return [_one(kind, certificate) for kind, certificate in found]


def _one(kind: str, certificate: x509.Certificate) -> LoadedCertificate:
    return LoadedCertificate(kind, format_serial(certificate.serial_number), certificate.not_valid_after_utc)


def seconds_left(loaded: LoadedCertificate) -> float:
    """Seconds until it expires; negative afterwards."""
    return (loaded.expires - datetime.now(UTC)).total_seconds()
