"""A verifying key as text, and its fingerprint: what a network, a task and a proof document pin."""

import hashlib
import json
from typing import NamedTuple

from proofs import strict_json
from proofs.errors import DocumentError

MAX_CHARACTERS = 1 << 20  # a real one has a few thousand
# All that a verifier needs. snarkjs writes `vk_alphabeta_12` besides, which follows from two of these.
_FIELDS = ("IC", "curve", "nPublic", "protocol", "vk_alpha_1", "vk_beta_2", "vk_delta_2", "vk_gamma_2")


class VerifyingKey(NamedTuple):
    """A verifying key in snarkjs' verification_key.json shape."""

    canonical: str  # JSON of _FIELDS, sorted, without blanks, no newline at the end
    sha256: str  # hex, of `canonical` in UTF-8: also what sha256sum says of the files that we write
    n_public: int  # how many public inputs a statement has


def parse(text: str) -> VerifyingKey:
    """Read a verification_key.json. DocumentError when it is none; its points are not looked at here."""
    if len(text) > MAX_CHARACTERS:
        raise _no_key(f"it has more than {MAX_CHARACTERS} characters")
    try:
        document = strict_json.parse(text)
    except strict_json.JsonError as error:
        raise _no_key(str(error)) from None
    if not isinstance(document, dict):
        raise _no_key(f"it is {strict_json.kind(document)}")
    missing = [name for name in _FIELDS if name not in document]
    if missing:
        raise DocumentError(f"not a verifying key: {missing[0]} is missing")
    if document["protocol"] != "groth16" or document["curve"] != "bn128":
        raise DocumentError('not a verifying key of this network: protocol must be "groth16", curve "bn128"')
    n_public = document["nPublic"]
    if type(n_public) is not int:
        raise DocumentError("not a verifying key: nPublic must be a whole number")
    canonical = json.dumps({name: document[name] for name in _FIELDS}, sort_keys=True, separators=(",", ":"))
    return VerifyingKey(canonical, hashlib.sha256(canonical.encode()).hexdigest(), n_public)


def _no_key(reason: str) -> DocumentError:
    return DocumentError(f"not a verifying key: expected a verification_key.json as snarkjs writes it, and {reason}")
