"""Keys of every circuit, made once a session: a few seconds."""

from pathlib import Path

import pytest

from zkp.proofs import circuits
from zkp.proofs.groth16 import Prover, Verifier
from zkp.proofs.keys import KeyStore

CEREMONY = Path(__file__).parent / "ceremony"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """A key store with development keys of all circuits; not to be changed."""
    store = KeyStore(tmp_path_factory.mktemp("keys") / "store")
    for name in circuits.NAMES:
        store.build(name)
    return store


@pytest.fixture(scope="session")
def provers(store: KeyStore) -> dict[str, Prover]:
    """A prover a circuit."""
    return {name: Prover(store, name) for name in circuits.NAMES}


@pytest.fixture(scope="session")
def verifier(store: KeyStore) -> Verifier:
    """The verifier of the same keys."""
    return Verifier(store)


@pytest.fixture(scope="session")
def samples(provers: dict[str, Prover]) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """A proof of each circuit's sample, with its public inputs."""
    made = {}
    for name, prover in provers.items():
        prepared = circuits.prepare(name, circuits.find(name).sample)
        made[name] = prover.prove(prepared.inputs, prepared.public_inputs), prepared.public_inputs
    return made
