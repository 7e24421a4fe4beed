"""Errors of this package; each message is one line that names the fix."""


class ProofsError(Exception):
    """Root of this package's errors."""


class CircuitError(ProofsError):
    """No circuit has this name."""


class InputError(ProofsError):
    """A request, or what it was made into, is wrong in one field.

    `field` is a path as the caller wrote it ("leaf_index", "leaves[7]", "public_inputs[0]"); `message`
    says what is wrong and what would be right, and never repeats a private value.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        """Survive the way back from a process pool, where errors are rebuilt from their arguments."""
        return type(self), (self.field, self.message)


class KeyStoreError(ProofsError):
    """A key is missing, damaged, or not the one that was pinned."""


class ProverMissingError(ProofsError):
    """The optional prover library is not installed."""


class UnsatisfiedInputs(ProofsError):
    """The inputs do not satisfy the circuit: final, another try cannot help."""


class ProverFailed(ProofsError):
    """The prover gave no proof, or one that does not verify, of inputs that are right: worth another try."""


class DocumentError(ProofsError):
    """A proof document or a verifying key file does not have the shape it must have."""
