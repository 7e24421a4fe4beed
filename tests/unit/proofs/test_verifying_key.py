"""Fingerprints of verifying keys: equal for equal keys, however they are written down."""

import hashlib
import json

import pytest

from proofs import DocumentError, verifying_key

KEY = {
    "protocol": "groth16",
    "curve": "bn128",
    "nPublic": 1,
    "vk_alpha_1": ["1", "2", "1"],
    "vk_beta_2": [["1", "2"], ["3", "4"], ["1", "0"]],
    "vk_gamma_2": [["1", "2"], ["3", "4"], ["1", "0"]],
    "vk_delta_2": [["1", "2"], ["3", "4"], ["1", "0"]],
    "IC": [["1", "2", "1"], ["3", "4", "1"]],
}


def test_layout_does_not_change_the_fingerprint() -> None:
    """Blanks, the order of keys and the derived field of snarkjs make no other key."""
    plain = verifying_key.parse(json.dumps(KEY))
    other = dict(reversed(KEY.items())) | {"vk_alphabeta_12": [["1"]]}
    assert verifying_key.parse(json.dumps(other, indent=2)) == plain
    assert plain.n_public == 1
    assert plain.sha256 == hashlib.sha256(plain.canonical.encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(KEY.keys() - {"protocol", "curve"}))
def test_every_part_changes_the_fingerprint(name: str) -> None:
    """A key that differs in any part has another fingerprint."""
    other = KEY | {name: 2 if name == "nPublic" else [["5", "6", "1"]]}
    assert verifying_key.parse(json.dumps(other)).sha256 != verifying_key.parse(json.dumps(KEY)).sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a verification_key.json"),
        ("{", "expected a verification_key.json"),
        ("[]", "expected a verification_key.json"),
        ("[" * 100_000, "expected a verification_key.json"),
        ('{"nPublic":' + "9" * 100_000 + "}", "expected a verification_key.json"),
        ('"' + "x" * verifying_key.MAX_CHARACTERS + '"', "expected a verification_key.json"),
        ('{"nPublic": 1, "nPublic": 2}', 'the key "nPublic" is there twice'),
        ("{}", "IC is missing"),
        (json.dumps(KEY | {"protocol": "plonk"}), "protocol must be"),
        (json.dumps(KEY | {"curve": "bls12381"}), "curve"),
        (json.dumps(KEY | {"nPublic": True}), "nPublic"),
        (json.dumps(KEY | {"nPublic": "1"}), "nPublic"),
    ],
)
def test_other_files_are_no_keys(text: str, words: str) -> None:
    """What is no verifying key is refused in words."""
    with pytest.raises(DocumentError, match=words):
        verifying_key.parse(text)
