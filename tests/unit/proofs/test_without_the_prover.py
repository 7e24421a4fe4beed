"""Without the optional prover library: what works all the same, and what says how to install it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.proofs.test_keystore import write_keys
from tests.unit.proofs.test_verifying_key import KEY
from zkp.proofs import ProverMissingError, circuits, groth16, verifying_key
from zkp.proofs.document import document, verify_document
from zkp.proofs.keys import KeyStore


@pytest.fixture(autouse=True)
def _no_prover_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importing groth16py fails as if it were not installed."""
    monkeypatch.setitem(sys.modules, "groth16py", None)
    groth16._library.cache_clear()
    yield
    groth16._library.cache_clear()


@pytest.mark.parametrize("name", circuits.NAMES)
def test_submissions_need_no_prover(name: str) -> None:
    """Requests are prepared, checked and written as documents without the library."""
    prepared = circuits.prepare(name, circuits.find(name).sample)
    circuits.check(name, prepared.inputs, prepared.public_inputs)
    assert document("t", name, bytes(256), prepared.public_inputs, "0" * 64)["circuit"] == name


def test_everything_else_says_how_to_install_it(tmp_path: Path) -> None:
    """Keys, proofs and verification end with the command that is missing."""
    write_keys(tmp_path)
    store = KeyStore(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: groth16.Verifier(store),
        lambda: groth16.Prover(store, "addition"),
        lambda: groth16.KeyVerifier(verifying_key.parse(json.dumps(KEY))),
        lambda: verify_document({}, json.dumps(KEY)),
        lambda: store.build("merkle_proof"),
        lambda: store.import_zkey("merkle_proof", tmp_path / "final.zkey"),
    ]
    for call in calls:
        with pytest.raises(ProverMissingError, match=r"pip install 'zkp-network\[prover\]'"):
            call()
    assert not (tmp_path / "merkle_proof").exists()
