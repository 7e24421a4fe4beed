"""A verifying key as text, and its fingerprint: what a network, a task and a proof document pin.

A key is refused when anyone could forge proofs with it:

- A point off its curve or outside its group, and the point at infinity, which removes a part of the equation.
- `alpha` or `beta` is the generator: the powers of tau have no contribution, so everyone knows the trapdoor.
- `delta` is the generator: the key has no contribution of its own (`snarkjs groth16 setup` makes it so).
- Two of `beta`, `gamma` and `delta` are equal or opposite: what proves one part of the equation proves another.
- Two points of `IC` are equal or opposite, so that a proof holds for more public inputs than its own.

`gamma` may be the generator: in every ceremony of snarkjs it is. The protocol of such ceremonies (Bowe, Gabizon,
Miers: https://eprint.iacr.org/2017/1050) fixes gamma to 1 and is sound as long as delta is unknown.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

from zkp.proofs import strict_json
from zkp.proofs.errors import DocumentError
from zkp.proofs.points import G1_GENERATOR, G2_GENERATOR, G1Point, in_g1, in_g2
from zkp.proofs.snarkjs import g1_point, g2_point

MAX_CHARACTERS = 1 << 20  # a real one has a few thousand
# All that a verifier needs. snarkjs writes `vk_alphabeta_12` besides, which follows from two of these.
_FIELDS = ("IC", "curve", "nPublic", "protocol", "vk_alpha_1", "vk_beta_2", "vk_delta_2", "vk_gamma_2")
_G2_FIELDS = ("vk_beta_2", "vk_gamma_2", "vk_delta_2")
_KEPT = 16  # keys whose check is remembered: a check takes 25 ms, and a process reads the same few keys many times
_NO_POWERS = "no one has contributed to its powers of tau; start from powers of tau with contributions"
_NO_KEY = "no one has contributed to the key; use the key that `snarkjs zkey contribute` makes of it"


class VerifyingKey(NamedTuple):
    """A verifying key in snarkjs' verification_key.json shape."""

    canonical: str  # JSON of _FIELDS, sorted, without blanks, no newline at the end
    sha256: str  # hex, of `canonical` in UTF-8: also what sha256sum says of the files that we write
    n_public: int  # how many public inputs a statement has


def parse(text: str) -> VerifyingKey:
    """Read a verification_key.json. DocumentError when it is none, or one with which proofs can be forged."""
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
    if type(document["nPublic"]) is not int:
        raise DocumentError("not a verifying key: nPublic must be a whole number")
    return _checked(json.dumps({name: document[name] for name in _FIELDS}, sort_keys=True, separators=(",", ":")))


@lru_cache(maxsize=_KEPT)
def _checked(canonical: str) -> VerifyingKey:
    document = json.loads(canonical)
    try:
        _check_points(document)
    except DocumentError as error:
        raise DocumentError(f"not a usable verifying key: {error}") from None
    return VerifyingKey(canonical, hashlib.sha256(canonical.encode()).hexdigest(), document["nPublic"])


def _check_points(document: Mapping[str, Any]) -> None:
    """DocumentError, naming the field, when anyone could forge proofs with the key."""
    alpha = _g1("vk_alpha_1", document["vk_alpha_1"])
    if alpha[0] == G1_GENERATOR[0]:
        raise DocumentError(f"vk_alpha_1: is the group's generator: {_NO_POWERS}")
    xs = {}
    for name in _G2_FIELDS:
        point = g2_point(name, _finite(name, document[name], ["0", "0"]))
        if not in_g2(point):
            raise _outside(name)
        xs[name], _ = point
    if xs["vk_beta_2"] == G2_GENERATOR[0]:
        raise DocumentError(f"vk_beta_2: is the group's generator: {_NO_POWERS}")
    if xs["vk_delta_2"] in (G2_GENERATOR[0], xs["vk_gamma_2"]):
        raise DocumentError(f"vk_delta_2: is vk_gamma_2 or the group's generator: {_NO_KEY}")
    for one, other in combinations(_G2_FIELDS, 2):
        if xs[one] == xs[other]:
            raise DocumentError(f"{one}: is {other} or its opposite, so proofs can be forged; use another key")
    _check_inputs(document["IC"], document["nPublic"])


def _check_inputs(points: object, n_public: int) -> None:
    if not isinstance(points, list) or len(points) != n_public + 1:
        raise DocumentError(f"IC: must be a list of {n_public + 1} points, one more than nPublic")
    xs = [_g1(f"IC[{index}]", point)[0] for index, point in enumerate(points)]
    if len(set(xs)) < len(xs):
        raise DocumentError("IC: two points are equal or opposite, so proofs can be forged; use another key")


def _g1(name: str, value: object) -> G1Point:
    point = g1_point(name, _finite(name, value, "0"))
    if not in_g1(point):
        raise _outside(name)
    return point


def _finite(name: str, value: object, zero: object) -> object:
    """The value, unless it is the point at infinity, whose last coordinate is zero."""
    if isinstance(value, list) and value[-1:] == [zero]:
        raise DocumentError(f"{name}: is the point at infinity, so proofs can be forged; use another key")
    return value


def _outside(name: str) -> DocumentError:
    return DocumentError(f"{name}: is not a point of its group; get the key from its source again")


def _no_key(reason: str) -> DocumentError:
    return DocumentError(f"not a verifying key: expected a verification_key.json as snarkjs writes it, and {reason}")
