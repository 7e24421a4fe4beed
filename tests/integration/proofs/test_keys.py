"""Keys that were really made: development setups, ceremony imports, and keys that do not belong together."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.proofs.conftest import CEREMONY
from zkp.proofs import KeyStoreError, ProverFailed, circuits, verifying_key
from zkp.proofs.groth16 import Prover, Verifier
from zkp.proofs.keys import KeyStore
from zkp.proofs.snarkjs import BASE_ORDER

FILES = {"circuit.json", "proving.key", "verification_key.json"}


@pytest.fixture
def copy(store: KeyStore, tmp_path: Path) -> KeyStore:
    """A store with the same addition keys, free to be damaged."""
    shutil.copytree(store.directory / "addition", tmp_path / "addition")
    return KeyStore(tmp_path)


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """A store with addition keys of another setup."""
    other = KeyStore(tmp_path_factory.mktemp("other"))
    other.build("addition")
    return other


def test_built_keys_are_listed_as_for_development(store: KeyStore) -> None:
    """Every circuit has its record, its size, and the words that warn of single-party keys."""
    records = store.list()
    assert tuple(record.name for record in records) == circuits.NAMES
    assert {record.label for record in records} == {"development only"}
    assert all(record.constraints for record in records)
    assert store.verifying_keys() == {record.name: record.verifying_key_sha256 for record in records}


def test_a_circuits_directory_holds_three_files(store: KeyStore) -> None:
    """Building leaves the three files, readable by every service of the host, and nothing else."""
    assert {path.name for path in store.directory.iterdir()} == set(circuits.NAMES)
    for name in circuits.NAMES:
        home = store.directory / name
        assert {path.name for path in home.iterdir()} == FILES
        assert home.stat().st_mode & 0o777 == 0o755
        pin = hashlib.sha256((home / "verification_key.json").read_bytes()).hexdigest()
        assert pin == store.record(name).verifying_key_sha256


def test_building_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The compiler's own output does not reach ours."""
    KeyStore(tmp_path).build("addition")
    assert capfd.readouterr() == ("", "")


def test_keys_are_not_replaced(store: KeyStore) -> None:
    """A second build is refused and leaves the first one's keys."""
    before = store.verifying_keys()
    with pytest.raises(KeyStoreError, match="already has keys"):
        store.build("addition")
    assert store.verifying_keys() == before


def test_an_exported_key_is_the_pinned_one(store: KeyStore, tmp_path: Path) -> None:
    """The exported file is a verification_key.json with the pin as its fingerprint."""
    path = store.export("merkle_proof", tmp_path / "key.json")
    assert verifying_key.parse(path.read_text()).sha256 == store.verifying_keys()["merkle_proof"]


def test_a_foreign_key_does_not_verify(samples: dict[str, tuple[bytes, tuple[str, ...]]], other: KeyStore) -> None:
    """A proof made with one setup's keys is false under another's."""
    proof, public_inputs = samples["addition"]
    assert not Verifier(other).verify("addition", proof, public_inputs)


def test_a_swapped_verifying_key_stops_the_start(copy: KeyStore, other: KeyStore) -> None:
    """Another setup's verification_key.json does not pass the pin, for provers and verifiers alike."""
    name = Path("addition", "verification_key.json")
    shutil.copy(other.directory / name, copy.directory / name)
    with pytest.raises(KeyStoreError, match="another key"):
        Verifier(copy)
    with pytest.raises(KeyStoreError, match="another key"):
        Prover(copy, "addition")


def test_a_foreign_proving_key_is_caught_before_reporting(copy: KeyStore, other: KeyStore) -> None:
    """Were a foreign proving key pinned by mistake, the prover would notice that its proofs are false."""
    home = copy.directory / "addition"
    shutil.copy(other.directory / "addition" / "proving.key", home / "proving.key")
    record = json.loads((home / "circuit.json").read_text())
    record["proving_key_sha256"] = hashlib.sha256((home / "proving.key").read_bytes()).hexdigest()
    (home / "circuit.json").write_text(json.dumps(record))
    prepared = circuits.prepare("addition", {"a": 1, "b": 2})
    with pytest.raises(ProverFailed, match="belong together"):
        Prover(copy, "addition").prove(prepared.inputs, prepared.public_inputs)


def test_garbage_pinned_as_a_proving_key_is_refused(copy: KeyStore) -> None:
    """A file that is no proving key at all is named, whatever its record says."""
    home = copy.directory / "addition"
    (home / "proving.key").write_bytes(b"garbage")
    record = json.loads((home / "circuit.json").read_text())
    record["proving_key_sha256"] = hashlib.sha256(b"garbage").hexdigest()
    (home / "circuit.json").write_text(json.dumps(record))
    with pytest.raises(KeyStoreError, match=r"proving\.key: not a usable proving key"):
        Prover(copy, "addition")


def test_points_off_the_curve_are_no_verifying_key(copy: KeyStore) -> None:
    """A key of the right shape whose points are not on the curve is refused when it is loaded."""
    home = copy.directory / "addition"
    broken = json.loads((home / "verification_key.json").read_text()) | {"vk_alpha_1": ["1", "1", "1"]}
    (home / "verification_key.json").write_text(json.dumps(broken))
    record = json.loads((home / "circuit.json").read_text())
    canonical = json.dumps(broken, sort_keys=True, separators=(",", ":"))
    record["verifying_key_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (home / "circuit.json").write_text(json.dumps(record))
    with pytest.raises(KeyStoreError, match="not a usable verifying key"):
        Verifier(copy)


def test_verifying_goes_on_without_the_proving_key(
    copy: KeyStore, samples: dict[str, tuple[bytes, tuple[str, ...]]]
) -> None:
    """A coordinator's store without proving keys verifies; a worker's says what is missing."""
    (copy.directory / "addition" / "proving.key").unlink()
    assert Verifier(copy).verify("addition", *samples["addition"])
    with pytest.raises(KeyStoreError, match="can verify but not prove"):
        Prover(copy, "addition")


def test_ceremony_keys_are_imported(tmp_path: Path) -> None:
    """A real ceremony's .zkey is taken over: listed as such, with the verifying key that snarkjs exported."""
    store = KeyStore(tmp_path)
    record = store.import_zkey("addition", CEREMONY / "addition.zkey")
    assert record.label == "ceremony"
    exported = verifying_key.parse((CEREMONY / "verification_key.json").read_text())
    assert store.verifying_keys() == {"addition": exported.sha256}
    prepared = circuits.prepare("addition", {"a": 2**64 - 1, "b": 3})
    proof = Prover(store, "addition").prove(prepared.inputs, prepared.public_inputs)
    assert Verifier(store).verify("addition", proof, prepared.public_inputs)


def test_a_ceremony_of_another_circuit_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A .zkey that does not fit the circuit is refused quietly and leaves nothing behind."""
    store = KeyStore(tmp_path / "store")
    with pytest.raises(KeyStoreError, match="not keys of circuit range_proof"):
        store.import_zkey("range_proof", CEREMONY / "addition.zkey")
    assert capfd.readouterr() == ("", "")
    assert store.list() == ()


def test_what_is_no_zkey_is_refused_before_the_library_reads_it(tmp_path: Path) -> None:
    """A missing file and a key of another protocol end in one line with the file, and leave nothing behind."""
    path = tmp_path / "final.zkey"
    with pytest.raises(KeyStoreError, match=r"final\.zkey: cannot be read: No such file"):
        KeyStore(tmp_path / "store").import_zkey("addition", path)
    path.write_bytes(b"zkey" + struct.pack("<IIIQI", 1, 1, 1, 4, 2))
    with pytest.raises(KeyStoreError, match=r"final\.zkey: is a key for PLONK"):
        KeyStore(tmp_path / "store").import_zkey("addition", path)
    assert not (tmp_path / "store").exists()


def test_a_cut_off_zkey_is_refused(tmp_path: Path) -> None:
    """A .zkey whose end is missing is refused."""
    path = tmp_path / "final.zkey"
    path.write_bytes((CEREMONY / "addition.zkey").read_bytes()[:-20_000])
    with pytest.raises(KeyStoreError):
        KeyStore(tmp_path / "store").import_zkey("addition", path)


# Places in the head of a Groth16 .zkey, after two orders of 36 bytes each.
WIRES, ALPHA_1, BETA_2, GAMMA_2, DELTA_2 = 72, slice(84, 148), slice(212, 340), slice(340, 468), slice(532, 660)
G1_GENERATOR = b"".join((n * 2**256 % BASE_ORDER).to_bytes(32, "little") for n in (1, 2))  # in Montgomery form


def changed_key(tmp_path: Path, change: Callable[[bytearray], None]) -> Path:
    """The ceremony's key with another head."""
    data = (CEREMONY / "addition.zkey").read_bytes()
    start = 12
    while struct.unpack_from("<I", data, start) != (2,):
        start += 12 + struct.unpack_from("<Q", data, start + 4)[0]
    head = bytearray(data[start + 12 : start + 12 + 660])
    change(head)
    path = tmp_path / "final.zkey"
    path.write_bytes(data[: start + 12] + head + data[start + 12 + 660 :])
    return path


def _without_contribution(head: bytearray) -> None:
    head[DELTA_2] = head[GAMMA_2]


def _without_powers(head: bytearray) -> None:
    head[ALPHA_1] = G1_GENERATOR


def _without_secret_powers(head: bytearray) -> None:
    head[BETA_2] = head[GAMMA_2]


def _of_default_optimisation(head: bytearray) -> None:
    struct.pack_into("<I", head, WIRES, 132)  # what circom 2 makes of addition.circom without --O2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_contribution, "no one has contributed to the key; use the key that `snarkjs zkey contribute`"),
        (_without_powers, "no one has contributed to its powers of tau; start from powers of tau with"),
        (_without_secret_powers, "no one has contributed to its powers of tau; start from powers of tau with"),
        (
            _of_default_optimisation,
            "132 wires, and the circuit, compiled with --O2, has 129; .*compile addition.circom with `circom2",
        ),
    ],
)
def test_a_key_that_is_unsafe_or_of_other_constraints_is_not_imported(
    tmp_path: Path, change: Callable[[bytearray], None], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names the file, says what the key is, and what to do; nothing is listed as a ceremony's."""
    path = changed_key(tmp_path, change)
    with pytest.raises(KeyStoreError, match=words) as refused:
        KeyStore(tmp_path / "store").import_zkey("addition", path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert KeyStore(tmp_path / "store").list() == ()
