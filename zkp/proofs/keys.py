"""The key store: one directory a circuit, pinned by the SHA-256 of its verifying key.

    DIR/<circuit>/circuit.json            the manifest: origin, fingerprints of the two files below
    DIR/<circuit>/verification_key.json   public; all that coordinators and clients need
    DIR/<circuit>/proving.key             what workers need besides; large, not secret

A directory appears whole or not at all, and keys are never replaced: every proof made with the old ones
would become worthless. To make new keys, move the directory away first.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from zkp.proofs import circuits, groth16, strict_json, verifying_key
from zkp.proofs.errors import DocumentError, KeyStoreError
from zkp.protocol.limits import SHA256_PATTERN, anchored

PROVING_KEY = "proving.key"
VERIFICATION_KEY = "verification_key.json"
RECORD = "circuit.json"
_MAX_BYTES = 1 << 20  # of a record or a verifying key: both have a few thousand

_Sha256 = Annotated[str, StringConstraints(pattern=anchored(SHA256_PATTERN))]


class Origin(StrEnum):
    """Who made the keys."""

    DEVELOPMENT = "development"  # one party, who could forge proofs
    CEREMONY = "ceremony"  # many parties, all of which would have to collude


class KeyRecord(BaseModel):
    """circuit.json: what is known of one circuit's keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    origin: Origin
    constraints: int | None  # None when unknown
    verifying_key_sha256: _Sha256
    proving_key_sha256: _Sha256
    created_at: str  # UTC, ISO 8601

    @property
    def label(self) -> str:
        """The origin as every listing shows it."""
        return "development only" if self.origin is Origin.DEVELOPMENT else "ceremony"


class KeyStore:
    """The keys in one directory. Every read is checked against the manifest."""

    def __init__(self, directory: Path) -> None:
        """The directory need not exist before the first key is made."""
        self.directory = Path(directory)

    def record(self, circuit: str) -> KeyRecord:
        """Return the manifest of a circuit's keys. KeyStoreError when there is none or it is damaged."""
        path = self._path(circuit, RECORD)
        try:
            record = KeyRecord.model_validate(strict_json.parse(_read(path)))
        except strict_json.JsonError as error:
            raise KeyStoreError(f"{path}: {error}; distribute the directory again") from None
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"])) or "JSON"
            raise KeyStoreError(f"{path}: {field} is wrong; distribute the directory again") from None
        if record.name != circuit:
            raise KeyStoreError(f"{path}: is of circuit {record.name!r}; distribute the directory again")
        return record

    def list(self) -> tuple[KeyRecord, ...]:
        """The records of all circuits that have keys here, in the catalogue's order."""
        return tuple(self.record(name) for name in circuits.NAMES if (self.directory / name).is_dir())

    def verifying_keys(self) -> dict[str, str]:
        """Circuit to the SHA-256 (hex) of its verifying key, each checked, in the catalogue's order."""
        return {record.name: self._verifying_key(record.name).sha256 for record in self.list()}

    def verification_key(self, circuit: str) -> str:
        """The circuit's verification_key.json in canonical form, checked against its pin."""
        return self._verifying_key(circuit).canonical

    def can_prove(self, circuit: str) -> bool:
        """Whether the circuit's proving key is here too."""
        return self._path(circuit, PROVING_KEY).is_file()

    def proving_key(self, circuit: str) -> Path:
        """The file of the circuit's proving key, checked against the manifest."""
        record = self.record(circuit)
        path = self._path(circuit, PROVING_KEY)
        if not path.is_file():
            raise KeyStoreError(f"{path}: is missing: this key store can verify but not prove; copy it here")
        if _sha256(path) != record.proving_key_sha256:
            raise KeyStoreError(f"{path}: does not match circuit.json; distribute the directory again")
        return path

    def build(self, circuit: str) -> KeyRecord:
        """Make keys for a circuit by a single-party setup, in seconds: for development only."""
        return self._add(circuit, Origin.DEVELOPMENT, lambda: groth16.setup(circuit))

    def import_zkey(self, circuit: str, path: Path) -> KeyRecord:
        """Take over a ceremony's final .zkey, tried out with a proof before it is kept.

        KeyStoreError for a key without a contribution, or of other constraints. Who contributed, and whether one of
        them was honest, is not checked here: see DESIGN.md.
        """
        return self._add(circuit, Origin.CEREMONY, lambda: groth16.import_zkey(circuit, path))

    def export(self, circuit: str, out: Path) -> Path:
        """Write the verification_key.json to the file or into the directory `out`; returns the file."""
        text = self.verification_key(circuit)
        target = out / VERIFICATION_KEY if out.is_dir() else out
        try:
            _write(target, text)
        except OSError as error:
            raise KeyStoreError(f"{target}: cannot be written: {error.strerror}") from None
        return target

    def _path(self, circuit: str, file: str) -> Path:
        return self.directory / circuits.find(circuit).name / file

    def _verifying_key(self, circuit: str) -> verifying_key.VerifyingKey:
        pin = self.record(circuit).verifying_key_sha256
        path = self._path(circuit, VERIFICATION_KEY)
        try:
            key = verifying_key.parse(_read(path))
        except DocumentError as error:
            raise KeyStoreError(f"{path}: {error}") from None
        if key.sha256 != pin:
            raise KeyStoreError(
                f"{path}: is another key ({key.sha256[:16]}…) than the one pinned in circuit.json "
                f"({pin[:16]}…); distribute the directory again"
            )
        if key.n_public != len(circuits.find(circuit).public):
            raise KeyStoreError(f"{path}: is the key of another circuit: it takes {key.n_public} public inputs")
        return key

    def _add(self, circuit: str, origin: Origin, make: Callable[[], groth16.KeyPair]) -> KeyRecord:
        """Put a new circuit directory together beside the others, then move it into place."""
        final = self.directory / circuits.find(circuit).name
        if final.exists():
            raise KeyStoreError(f"{final}: already has keys; move it away to make new ones")
        pair = make()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{circuit}.", dir=self.directory))
            try:
                record = _fill(staging, circuit, origin, pair)
                staging.rename(final)
            except BaseException:
                shutil.rmtree(staging)
                raise
            _sync(self.directory)
        except OSError as error:
            raise KeyStoreError(f"{final}: cannot be written: {error.strerror}") from None
        return record


def _fill(directory: Path, circuit: str, origin: Origin, pair: groth16.KeyPair) -> KeyRecord:
    proving_key = directory / PROVING_KEY
    pair.save(proving_key)
    _sync(proving_key)
    record = KeyRecord(
        name=circuit,
        origin=origin,
        constraints=pair.constraints,
        verifying_key_sha256=pair.verifying_key.sha256,
        proving_key_sha256=_sha256(proving_key),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    _write(directory / VERIFICATION_KEY, pair.verifying_key.canonical)
    _write(directory / RECORD, record.model_dump_json(indent=2) + "\n")
    directory.chmod(0o755)  # mkdtemp makes it private, but nothing in it is secret
    _sync(directory)
    return record


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise KeyStoreError(f"{path}: is missing; make the keys or copy the circuit's directory here") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyStoreError(f"{path}: cannot be read: {error}") from None
    if len(data) > _MAX_BYTES:
        raise KeyStoreError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; distribute the directory again")
    return text


def _write(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new one, also after a crash."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
