"""Groth16 over BN254 through groth16py: the only module that imports it.

groth16py is GPL-3.0 and an optional extra, so it is loaded at first use: a program that only prepares and
submits statements never needs it.
"""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

from zkp.proofs import circuits, verifying_key
from zkp.proofs.errors import DocumentError, KeyStoreError, ProverFailed, ProverMissingError, UnsatisfiedInputs
from zkp.proofs.field import from_decimal
from zkp.proofs.signals import decode
from zkp.proofs.snarkjs import PROOF_BYTES
from zkp.proofs.zkey import Head, read_head

_SOURCES = Path(__file__).parent / "circom"
_CONSTRAINTS = re.compile(rb"linear constraints(?:\x1b\[0m)?: ([0-9]+)")  # "non-linear" and "linear"
_WIRES = re.compile(rb"wires(?:\x1b\[0m)?: ([0-9]+)")
_output = threading.Lock()


class Keys(Protocol):
    """Where pinned keys come from; `proofs.keys.KeyStore` is one."""

    def verifying_keys(self) -> Mapping[str, str]:
        """Circuit to the SHA-256 of its verifying key."""

    def verification_key(self, circuit: str) -> str:
        """The circuit's verification_key.json, checked against its pin."""

    def proving_key(self, circuit: str) -> Path:
        """The file of the circuit's proving key, checked against its pin."""


@cache
def _library() -> ModuleType:
    try:
        return import_module("groth16py")
    except ImportError as error:
        raise ProverMissingError(
            "the prover library is not installed; run: pip install 'zkp-network[prover]'"
        ) from error


class KeyVerifier:
    """Checks proofs against one verifying key, about a millisecond each. Safe to share by threads."""

    def __init__(self, key: verifying_key.VerifyingKey) -> None:
        """Check and prepare the key; DocumentError when its points are not on the curve."""
        library = _library()
        self._refusals = (library.EncodingError, library.VerificationError)
        self._n_public = key.n_public
        try:
            self._verifier = library.Verifier(library.VerifyingKey.from_snarkjs(key.canonical))
        except self._refusals as error:
            raise DocumentError(f"not a usable verifying key: {error}") from None

    def verify(self, proof: bytes, public_inputs: Sequence[str]) -> bool:
        """Whether `proof` proves the statement. Anything malformed proves nothing: False, never an error."""
        statement = [from_decimal(text) for text in public_inputs]
        if len(proof) != PROOF_BYTES or len(statement) != self._n_public or None in statement:
            return False
        try:
            return bool(self._verifier.verify(proof, statement))
        except self._refusals:  # a point off the curve, a coordinate at or above the base field's order
            return False


class Verifier:
    """Checks proofs of every circuit that a key store holds. All keys are loaded at construction."""

    def __init__(self, keys: Keys) -> None:
        """KeyStoreError when a key is damaged or not the pinned one."""
        self._verifiers = {circuit: _verifier(keys, circuit) for circuit in keys.verifying_keys()}

    def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
        """Whether `proof` proves the circuit's statement with these public inputs.

        About a millisecond; malformed proofs and inputs are False. KeyStoreError when the store holds no
        key of the circuit.
        """
        verifier = self._verifiers.get(circuit)
        if verifier is None:
            raise KeyStoreError(f"no verifying key of circuit {ascii(circuit)[:64]} is in the key store")
        return verifier.verify(proof, public_inputs)


class Prover:
    """Makes proofs of one circuit. Loading takes up to half a second: keep it and prove many times."""

    def __init__(self, keys: Keys, circuit: str) -> None:
        """KeyStoreError when a key is missing, damaged or not the pinned one; CircuitError."""
        self._circuit = circuits.find(circuit)
        self._verifier = _verifier(keys, circuit)
        path = keys.proving_key(circuit)
        try:
            with _failures():
                self._key = _library().ProvingKey.load(str(path))
        except _LibraryFailure as failure:
            raise KeyStoreError(f"{path}: not a usable proving key ({failure}); distribute it again") from None

    def prove(self, inputs: bytes, public_inputs: Sequence[str] | None = None) -> bytes:
        """Prove that `inputs` (see proofs.signals) lead to `public_inputs`; None: to what they lead to.

        Takes up to half a second of one core, without the interpreter lock. The proof was verified. Final:
        InputError, UnsatisfiedInputs. Worth another try: ProverFailed.
        """
        expected = circuits.evaluate(self._circuit.name, inputs)
        if public_inputs is not None and tuple(public_inputs) != expected:
            raise UnsatisfiedInputs("the inputs do not lead to the public inputs that are to be proved")
        return _prove(self._key, self._verifier, self._circuit, inputs, expected)


def _verifier(keys: Keys, circuit: str) -> KeyVerifier:
    try:
        return KeyVerifier(verifying_key.parse(keys.verification_key(circuit)))
    except DocumentError as error:
        raise KeyStoreError(f"verification_key.json of {circuit}: {error}") from None


def _prove(
    key: Any,  # noqa: ANN401 - a groth16py.ProvingKey, whose type may not be installed
    verifier: KeyVerifier,
    circuit: circuits.Circuit,
    inputs: bytes,
    public_inputs: Sequence[str],
) -> bytes:
    """Prove and verify: the library makes a proof of anything, also of inputs that break a constraint."""
    signals = {
        name: values[0] if circuit.shape[name] is None else list(values)
        for name, values in decode(circuit.shape, inputs).items()
    }
    try:
        with _failures():
            proof = bytes(_library().prove(key, signals))
    except _LibraryFailure as failure:
        # Its words may repeat a private input: only the kind of error is passed on.
        raise ProverFailed(f"the prover library failed ({failure.kind})") from None
    if not verifier.verify(proof, public_inputs):
        raise ProverFailed("the prover made a false proof; do proving.key and verification_key.json belong together?")
    return proof


class KeyPair:
    """Keys just made or imported, not yet in a store."""

    def __init__(self, keys: tuple[Any, Any], output: bytes) -> None:
        """`output` is what the circom compiler printed."""
        self._proving_key, verifying = keys
        self.verifying_key = verifying_key.parse(verifying.to_json())
        found = _CONSTRAINTS.findall(output)
        self.constraints = sum(map(int, found)) if found else None
        wires = _WIRES.search(output)
        self._wires = int(wires[1]) if wires else None

    def save(self, path: Path) -> None:
        """Write the proving key."""
        self._proving_key.save(str(path))

    def compare(self, circuit: circuits.Circuit, head: Head) -> None:
        """KeyStoreError when an imported key, of this head, was made for a circuit of another size."""
        if self._wires not in (None, head.wires):
            raise KeyStoreError(
                f"these are not keys of circuit {circuit.name}: they are for {head.wires} wires, and the circuit, "
                f"compiled with --O2, has {self._wires}; if they were made without --O2 (circom's default is --O1), "
                f"compile {circuit.name}.circom with `circom2 --r1cs --O2`, and repeat `snarkjs groth16 setup` and "
                "the contributions"
            )

    def try_out(self, circuit: circuits.Circuit) -> None:
        """Prove and verify the circuit's sample; ProverFailed when these are not its keys."""
        prepared = circuits.prepare(circuit.name, circuit.sample)
        verifier = KeyVerifier(self.verifying_key)
        _prove(self._proving_key, verifier, circuit, prepared.inputs, prepared.public_inputs)


def setup(circuit: str) -> KeyPair:
    """Compile a circuit and make keys for it: one party knows the trapdoor, so for development only."""
    return _make(circuit, _library().setup_circom)


def import_zkey(circuit: str, zkey: Path) -> KeyPair:
    """Take over the keys of a ceremony; KeyStoreError when the file is none of this circuit's, or unsafe."""
    library, wanted = _library(), len(circuits.find(circuit).public)
    head = read_head(zkey)
    if head.public_inputs != wanted:
        raise KeyStoreError(
            f"{zkey}: these are not keys of circuit {circuit}: they are for {head.public_inputs} public inputs, and "
            f"the circuit has {wanted}; give this circuit's .zkey"
        )
    try:
        return _make(circuit, partial(library.import_zkey, str(zkey)), head)
    except (DocumentError, KeyStoreError) as error:
        raise KeyStoreError(f"{zkey}: {error}") from None


def _make(name: str, make: Callable[[str, list[str]], tuple[Any, Any]], head: Head | None = None) -> KeyPair:
    """Compile a circuit, make or import its keys, and try them out. `head`: of the file that is imported."""
    circuit = circuits.find(name)
    source = _SOURCES / f"{circuit.name}.circom"
    try:
        with _captured_output() as output, _failures():
            keys = make(str(source), [_library().circomlib_path(2)])
            output.seek(0)
            pair = KeyPair(keys, output.read())
            if head is not None:
                pair.compare(circuit, head)
            pair.try_out(circuit)
    except _LibraryFailure as failure:
        raise KeyStoreError(f"no keys of circuit {name} could be made: {failure}") from None
    except ProverFailed:
        raise KeyStoreError(f"these are not keys of circuit {name}, or of another version of it") from None
    return pair


class _LibraryFailure(Exception):
    """The library raised, or its Rust code panicked."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(" ".join(str(error).split()))
        self.kind = type(error).__name__


@contextmanager
def _failures() -> Iterator[None]:
    """Turn whatever the library raises on bad data into _LibraryFailure."""
    library = _library()
    known = (library.SetupError, library.WitnessError, library.EncodingError, RuntimeError, ValueError)
    try:
        yield
    except known as error:
        raise _LibraryFailure(error) from None
    except BaseException as error:
        # A panic is derived from BaseException, of a class that cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise _LibraryFailure(error) from None


@contextmanager
def _captured_output() -> Iterator[IO[bytes]]:
    """Send file descriptors 1 and 2 to a file meanwhile: compiler and panics print past sys.stdout."""
    with _output, tempfile.TemporaryFile() as capture:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        saved = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in saved:
                os.dup2(capture.fileno(), number)
            yield capture
        finally:
            for number, original in saved.items():
                os.dup2(original, number)
                os.close(original)
