"""Circuits, their keys, proofs: making them, checking them, handing them on.

Only `proofs.groth16` imports the prover library, an optional extra; everything else is pure Python.
"""

from zkp.proofs.errors import (
    CircuitError,
    DocumentError,
    InputError,
    KeyStoreError,
    ProofsError,
    ProverFailed,
    ProverMissingError,
    UnsatisfiedInputs,
)

__all__ = [
    "CircuitError",
    "DocumentError",
    "InputError",
    "KeyStoreError",
    "ProofsError",
    "ProverFailed",
    "ProverMissingError",
    "UnsatisfiedInputs",
]
