"""Proof documents: checked with nothing but the verifying key's file."""

import json
from typing import Any

import groth16py
import pytest

from tests.integration.proofs.conftest import CEREMONY
from zkp.proofs import DocumentError, circuits, snarkjs
from zkp.proofs.document import document, verify_document
from zkp.proofs.field import ORDER
from zkp.proofs.groth16 import Prover
from zkp.proofs.keys import KeyStore
from zkp.proofs.snarkjs import BASE_ORDER

Samples = dict[str, tuple[bytes, tuple[str, ...]]]


@pytest.fixture(scope="module")
def key(store: KeyStore) -> str:
    return store.verification_key("range_proof")


@pytest.fixture
def doc(store: KeyStore, samples: Samples) -> dict[str, Any]:
    """A true document, as it is after a round through JSON."""
    proof, public_inputs = samples["range_proof"]
    made = document("task-1", "range_proof", proof, public_inputs, store.verifying_keys()["range_proof"])
    parsed: dict[str, Any] = json.loads(json.dumps(made))
    return parsed


def test_a_true_document_is_valid(doc: dict[str, Any], key: str) -> None:
    """The result says what was proved, with the public inputs by name."""
    result = verify_document(doc, key)
    assert (result.valid, result.reason) == (True, "")
    assert (result.circuit, result.task_id) == ("range_proof", "task-1")
    assert "`commitment`" in result.statement
    assert result.public_inputs["min"] == "18"
    assert list(result.public_inputs) == ["commitment", "min", "max"]


@pytest.mark.parametrize("name", circuits.NAMES)
def test_documents_hold_what_snarkjs_would_verify(name: str, store: KeyStore, samples: Samples) -> None:
    """The proof object and the public inputs verify through the library's own snarkjs entry point."""
    proof, public_inputs = samples[name]
    key = groth16py.VerifyingKey.from_snarkjs(store.verification_key(name))
    proof_json, public_json = json.dumps(snarkjs.to_object(proof)), json.dumps(public_inputs)
    assert groth16py.Verifier(key).verify_snarkjs(proof_json, public_json)


def test_a_key_as_snarkjs_writes_it_verifies(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A document made with ceremony keys is valid under the file that snarkjs exported."""
    store = KeyStore(tmp_path_factory.mktemp("ceremony"))
    store.import_zkey("addition", CEREMONY / "addition.zkey")
    prepared = circuits.prepare("addition", {"a": 1, "b": 2})
    proof = Prover(store, "addition").prove(prepared.inputs)
    doc = document("t", "addition", proof, prepared.public_inputs, store.verifying_keys()["addition"])
    assert verify_document(doc, (CEREMONY / "verification_key.json").read_text()).valid


def test_changed_public_inputs_are_not_valid(doc: dict[str, Any], key: str) -> None:
    """A document that claims a wider range than was proved is not valid."""
    doc["public_inputs"][2] = "121"
    result = verify_document(doc, key)
    assert not result.valid
    assert "does not prove" in result.reason


def test_another_key_is_named(doc: dict[str, Any], store: KeyStore) -> None:
    """Under another key than the pinned one, the result says which key it was made for."""
    result = verify_document(doc, store.verification_key("merkle_proof"))
    assert not result.valid
    assert doc["verifying_key_sha256"][:16] in result.reason


def test_a_forged_pin_does_not_help(doc: dict[str, Any], store: KeyStore) -> None:
    """A document that names the given key without having been made with it is not valid."""
    doc["verifying_key_sha256"] = store.verifying_keys()["merkle_proof"]
    assert not verify_document(doc, store.verification_key("merkle_proof")).valid


@pytest.mark.parametrize("coordinate", [BASE_ORDER, 2**256 - 1, 2**256, 10**78 - 1])
def test_coordinates_beyond_the_field_are_not_valid(coordinate: int, doc: dict[str, Any], key: str) -> None:
    """A coordinate at or above the base field's order makes the proof invalid, not an error."""
    doc["proof"]["pi_c"][1] = str(coordinate)
    result = verify_document(doc, key)
    assert not result.valid
    assert "base field's order" in result.reason


def test_points_off_the_curve_are_not_valid(doc: dict[str, Any], key: str) -> None:
    """A point that is none makes the proof invalid, not an error."""
    doc["proof"]["pi_a"][:2] = ["1", "1"]
    assert not verify_document(doc, key).valid


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"circuit": "division"}, "circuit"),
        ({"circuit": 5}, "circuit"),
        ({"proof": None}, "proof"),
        ({"public_inputs": ["1"]}, "public_inputs"),
        ({"public_inputs": "123"}, "public_inputs"),
        ({"public_inputs": ["1", "2", 3]}, "public_inputs[2]"),
        ({"public_inputs": ["1", "2", str(ORDER)]}, "public_inputs[2]"),
        ({"verifying_key_sha256": "abc"}, "verifying_key_sha256"),
        ({"verifying_key_sha256": None}, "verifying_key_sha256"),
        ({"task_id": 7}, "task_id"),
        ({"note": "hello"}, "note"),
    ],
)
def test_malformed_documents_are_refused_by_field(
    change: dict[str, Any], field: str, doc: dict[str, Any], key: str
) -> None:
    """Each malformed field is named in one line."""
    with pytest.raises(DocumentError) as refused:
        verify_document(doc | change, key)
    assert str(refused.value).startswith(f"{field}:")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["circuit", "proof", "public_inputs", "task_id", "verifying_key_sha256"])
def test_missing_fields_are_named(name: str, doc: dict[str, Any], key: str) -> None:
    """A document without one of its fields is none."""
    del doc[name]
    with pytest.raises(DocumentError, match=f"{name}: is missing"):
        verify_document(doc, key)


@pytest.mark.parametrize("other", [None, [], "proof", 7])
def test_other_json_is_no_document(other: object, key: str) -> None:
    """Only an object is a proof document."""
    with pytest.raises(DocumentError, match="expected a JSON object"):
        verify_document(other, key)


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_other_files_are_no_key(text: str, doc: dict[str, Any]) -> None:
    """A file that is no verifying key is told from a false proof."""
    with pytest.raises(DocumentError, match="not a verifying key"):
        verify_document(doc, text)
