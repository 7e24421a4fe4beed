"""A daemon's certificates: reloaded on SIGHUP and when their files change, without a restart.

Invalid files are refused, logged and counted, and the old certificates stay in use. The files of one identity are
replaced one after another, so a change is only loaded once the files have been stable for a moment.
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
_RETRY_S = 60.0  # after a refusal: the clock or the permissions may have been fixed

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """One certificate in use. kind: "leaf", "issuer" or "root"; serial: hexadecimal; expires: with time zone."""

    kind: str
    serial: str
    expires: datetime


class Certificates:
    """TLS material in use, with callbacks for its changes."""

    def __init__(self, material: TlsMaterial, stamp: _Stamp) -> None:
        """stamp: of the files, taken before they were read."""
        self.material = material
        self.loaded: Sequence[LoadedCertificate] = _loaded(material)
        """Certificates in use: the leaf, the CAs of its chain, and the trusted roots."""
        self.refused = False
        """Whether the files differ from the material in use because they were refused."""
        self._stamp = stamp
        self._changed: list[Callable[[], None]] = []

    @classmethod
    def load(cls, files: TlsFiles) -> Self:
        """Read and check the files; raises TlsError."""
        stamp = _stamp(files)
        return cls(TlsMaterial.load(files), stamp)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this after each reload with changes: connections may have to be re-established."""
        self._changed.append(callback)

    def reload(self) -> None:
        """Read the files again now. Raises TlsError, and keeps the old ones."""
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
            await asyncio.sleep(_PERIOD_S * random.uniform(0.75, 1.25))  # noqa: S311 - spreads the checks
            again = refused_at is not None and clock() - refused_at >= _RETRY_S
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
        """Return the files' stamp once it has been stable for a moment."""
        stamp = _stamp(self.material.files)
        while True:
            await asyncio.sleep(_SETTLE_S)
            before, stamp = stamp, _stamp(self.material.files)
            if stamp == before:
                return stamp


def _stamp(files: TlsFiles) -> _Stamp:
    """Return a value that changes with the files, whether they are written in place or replaced."""
    paths = (files.certificate, files.key, files.ca, files.crl)
    return tuple(None if path is None else _stamp_of(path) for path in paths)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _loaded(material: TlsMaterial) -> list[LoadedCertificate]:
    """Read the certificates from the files again; if these have changed since, the next check reloads them."""
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
    """Return the seconds until the certificate expires; negative afterwards."""
    return (loaded.expires - datetime.now(UTC)).total_seconds()
