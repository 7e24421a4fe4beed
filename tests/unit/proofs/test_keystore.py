"""The key store's files: pins, damage, absence. The verifying key here is a real one, the proving key is none."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.proofs.test_verifying_key import FORGEABLE, KEY, opposite
from zkp.proofs import CircuitError, KeyStoreError, verifying_key
from zkp.proofs.keys import KeyStore

PROVING_KEY = b"a proving key"


def write_keys(directory: Path, circuit: str = "addition", **record: Any) -> str:
    """Lay out a circuit's directory as the store does; returns the verifying key's fingerprint."""
    key = verifying_key.parse(json.dumps(KEY))
    home = directory / circuit
    home.mkdir()
    (home / "verification_key.json").write_text(key.canonical)
    (home / "proving.key").write_bytes(PROVING_KEY)
    content = {
        "name": circuit,
        "origin": "development",
        "constraints": 128,
        "verifying_key_sha256": key.sha256,
        "proving_key_sha256": hashlib.sha256(PROVING_KEY).hexdigest(),
        "created_at": "2026-01-02T03:04:05+00:00",
    }
    (home / "circuit.json").write_text(json.dumps(content | record))
    return key.sha256


def test_an_absent_directory_is_an_empty_store(tmp_path: Path) -> None:
    """A store without keys lists none."""
    store = KeyStore(tmp_path / "absent")
    assert store.list() == ()
    assert store.verifying_keys() == {}


def test_keys_are_listed_with_their_pins(tmp_path: Path) -> None:
    """Listings give the pins in the catalogue's order, and say what is for development only."""
    sha256 = write_keys(tmp_path)
    write_keys(tmp_path, "merkle_proof", origin="ceremony", constraints=None)
    (tmp_path / ".addition.x1").mkdir()
    store = KeyStore(tmp_path)
    assert [(record.name, record.label) for record in store.list()] == [
        ("merkle_proof", "ceremony"),
        ("addition", "development only"),
    ]
    assert store.verifying_keys() == {"merkle_proof": sha256, "addition": sha256}


def test_another_key_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """A verification_key.json that was swapped is refused by every way to it, with both fingerprints."""
    pin = write_keys(tmp_path)
    swapped = json.dumps(KEY | {"vk_alpha_1": opposite(KEY["vk_alpha_1"])})
    (tmp_path / "addition" / "verification_key.json").write_text(swapped)
    store = KeyStore(tmp_path)
    for read in (store.verifying_keys, lambda: store.verification_key("addition")):
        with pytest.raises(KeyStoreError, match="another key") as refused:
            read()
        assert pin[:16] in str(refused.value)
        assert verifying_key.parse(swapped).sha256[:16] in str(refused.value)


def write_forgeable(directory: Path, change: dict[str, Any]) -> Path:
    """Lay out a circuit's directory around a changed key, pinned as it is; returns the key's file."""
    text = json.dumps(KEY | change, sort_keys=True, separators=(",", ":"))
    write_keys(directory, verifying_key_sha256=hashlib.sha256(text.encode()).hexdigest())
    path = directory / "addition" / "verification_key.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("change", "words"), FORGEABLE.values(), ids=FORGEABLE)
def test_a_pinned_key_with_which_proofs_can_be_forged_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """A key store that already holds such a key is refused by every way to it, with the file's name."""
    path = write_forgeable(tmp_path, change)
    store = KeyStore(tmp_path)
    for read in (store.verifying_keys, lambda: store.verification_key("addition")):
        with pytest.raises(KeyStoreError, match=words) as refused:
            read()
        assert str(refused.value).startswith(f"{path}: not a usable verifying key: ")


def test_a_reformatted_key_is_the_same_key(tmp_path: Path) -> None:
    """The pin is of the key, not of its layout."""
    pin = write_keys(tmp_path)
    (tmp_path / "addition" / "verification_key.json").write_text(json.dumps(KEY, indent=4))
    assert KeyStore(tmp_path).verifying_keys() == {"addition": pin}


def test_a_key_of_another_circuit_is_refused(tmp_path: Path) -> None:
    """A key whose number of public inputs is not the circuit's cannot be its key."""
    write_keys(tmp_path, "range_proof")
    with pytest.raises(KeyStoreError, match="takes 1 public inputs"):
        KeyStore(tmp_path).verification_key("range_proof")


def test_a_store_for_verifying_says_that_it_cannot_prove(tmp_path: Path) -> None:
    """Without proving.key, verifying goes on and proving names the missing file and the cure."""
    write_keys(tmp_path)
    path = tmp_path / "addition" / "proving.key"
    store = KeyStore(tmp_path)
    assert store.can_prove("addition")
    assert store.proving_key("addition") == path
    path.unlink()
    assert not store.can_prove("addition")
    assert store.verification_key("addition")
    with pytest.raises(KeyStoreError, match="can verify but not prove") as refused:
        store.proving_key("addition")
    assert str(path) in str(refused.value)


def test_a_damaged_proving_key_is_refused(tmp_path: Path) -> None:
    """A proving key with one changed byte is not loaded."""
    write_keys(tmp_path)
    (tmp_path / "addition" / "proving.key").write_bytes(b"b" + PROVING_KEY[1:])
    with pytest.raises(KeyStoreError, match=r"does not match circuit\.json"):
        KeyStore(tmp_path).proving_key("addition")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "range_proof"}, "is of circuit 'range_proof'"),
        ({"origin": "found on the street"}, "origin is wrong"),
        ({"verifying_key_sha256": "abc"}, "verifying_key_sha256 is wrong"),
        ({"surplus": 1}, "surplus is wrong"),
    ],
)
def test_a_wrong_record_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """A record that does not make sense is refused with the file and the field."""
    write_keys(tmp_path, **change)
    with pytest.raises(KeyStoreError, match=words) as refused:
        KeyStore(tmp_path).record("addition")
    assert "circuit.json" in str(refused.value)


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    """Editors that write one make no other key, and no other record."""
    pin = write_keys(tmp_path)
    for name in ("circuit.json", "verification_key.json"):
        path = tmp_path / "addition" / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert KeyStore(tmp_path).verifying_keys() == {"addition": pin}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("circuit.json", None),
        ("circuit.json", b"{"),
        ("circuit.json", b"\xff"),
        ("circuit.json", b'{"name": "addition", "name": "range_proof"}'),
        ("circuit.json", b"[" * 100_000),
        ("circuit.json", b'{"constraints": ' + b"9" * 5000 + b"}"),
        ("circuit.json", b" " * (1 << 20) + b"{}"),
        ("verification_key.json", None),
        ("verification_key.json", b"{}"),
        ("verification_key.json", b"\xff"),
    ],
)
def test_missing_and_garbled_files_are_named(tmp_path: Path, file: str, content: bytes | None) -> None:
    """Whatever happened to a file, the error is one line with its path."""
    write_keys(tmp_path)
    path = tmp_path / "addition" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(KeyStoreError) as refused:
        KeyStore(tmp_path).verification_key("addition")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_export_writes_the_canonical_key(tmp_path: Path) -> None:
    """An export goes to a file or into a directory, and its SHA-256 is the pin; nothing else is left."""
    pin = write_keys(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    store = KeyStore(tmp_path)
    assert store.export("addition", out) == out / "verification_key.json"
    assert store.export("addition", out / "key.json") == out / "key.json"
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()} == {pin}
    assert len(list(out.iterdir())) == 2


def test_export_to_nowhere_is_refused(tmp_path: Path) -> None:
    """A directory that does not exist is named."""
    write_keys(tmp_path)
    with pytest.raises(KeyStoreError, match=r"absent/key\.json: cannot be written"):
        KeyStore(tmp_path).export("addition", tmp_path / "absent" / "key.json")


def test_unknown_circuits_have_no_path(tmp_path: Path) -> None:
    """A name that is no circuit's never becomes part of a path."""
    with pytest.raises(CircuitError):
        KeyStore(tmp_path).proving_key("../addition")


def test_existing_keys_are_not_replaced(tmp_path: Path) -> None:
    """Building and importing refuse before any work when the circuit has keys."""
    write_keys(tmp_path)
    store = KeyStore(tmp_path)
    makers: list[Callable[[], object]] = [
        lambda: store.build("addition"),
        lambda: store.import_zkey("addition", tmp_path / "x.zkey"),
    ]
    for make in makers:
        with pytest.raises(KeyStoreError, match="already has keys"):
            make()
