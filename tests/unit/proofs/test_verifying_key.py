"""Verifying keys: equal fingerprints for equal keys, and no key with which anyone could forge proofs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from zkp.proofs import DocumentError, verifying_key
from zkp.proofs.points import G1_GENERATOR, G2_GENERATOR
from zkp.proofs.snarkjs import BASE_ORDER

CEREMONY = Path(__file__).parents[2] / "integration" / "proofs" / "ceremony" / "verification_key.json"
# A ceremony's key, as snarkjs exported it: its gamma is the generator, as in every ceremony of snarkjs.
EXPORTED: dict[str, Any] = json.loads(CEREMONY.read_text(encoding="utf-8"))
KEY = {name: value for name, value in EXPORTED.items() if name != "vk_alphabeta_12"}

G1 = [*map(str, G1_GENERATOR), "1"]
G2 = [*([str(part) for part in coordinate] for coordinate in G2_GENERATOR), ["1", "0"]]
# On the curve, outside the subgroup: x = 1.
OUTSIDE = [
    ["1", "0"],
    [
        "18278151005453108793778860132295291098363647455926340152056652516292830556603",
        "5912654199736721486680175016176231956195085055698687135131307249486702594212",
    ],
    ["1", "0"],
]


def opposite(point: list[Any]) -> list[Any]:
    """The point with the other sign, which is as good a point."""
    x, y, z = point
    if isinstance(y, str):
        return [x, str(BASE_ORDER - int(y)), z]
    return [x, [str(BASE_ORDER - int(part)) for part in y], z]


def test_layout_does_not_change_the_fingerprint() -> None:
    """Blanks, the order of keys and the derived field of snarkjs make no other key."""
    plain = verifying_key.parse(json.dumps(KEY))
    assert verifying_key.parse(json.dumps(dict(reversed(EXPORTED.items())), indent=2)) == plain
    assert plain.n_public == 1
    assert plain.sha256 == hashlib.sha256(plain.canonical.encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(KEY.keys() - {"protocol", "curve", "nPublic"}))
def test_every_part_changes_the_fingerprint(name: str) -> None:
    """A key that differs in any part has another fingerprint."""
    other = list(map(opposite, KEY[name])) if name == "IC" else opposite(KEY[name])
    assert verifying_key.parse(json.dumps(KEY | {name: other})).sha256 != verifying_key.parse(json.dumps(KEY)).sha256


FORGEABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no contribution": ({"vk_delta_2": KEY["vk_gamma_2"]}, "vk_delta_2: is vk_gamma_2 or the group's generator"),
    "delta opposite to gamma": ({"vk_delta_2": opposite(KEY["vk_gamma_2"])}, "vk_delta_2: is vk_gamma_2"),
    "delta the generator": ({"vk_gamma_2": KEY["vk_beta_2"], "vk_delta_2": G2}, "vk_delta_2: .* generator"),
    "delta equal to another gamma": (
        {"vk_gamma_2": KEY["vk_delta_2"]},
        "vk_delta_2: is vk_gamma_2 .* no one has contributed to the key; use the key that `snarkjs zkey contribute`",
    ),
    "beta equal to gamma": ({"vk_gamma_2": KEY["vk_beta_2"]}, "vk_beta_2: is vk_gamma_2 or its opposite"),
    "beta equal to delta": ({"vk_delta_2": KEY["vk_beta_2"]}, "vk_beta_2: is vk_delta_2 or its opposite"),
    "no powers": ({"vk_alpha_1": G1, "vk_beta_2": G2}, "vk_alpha_1: .* no one has contributed to its powers of tau"),
    "alpha the generator": ({"vk_alpha_1": G1}, "vk_alpha_1: is the group's generator"),
    "beta the generator": ({"vk_beta_2": G2}, "vk_beta_2: is the group's generator"),
    **{
        f"{name} at infinity": ({name: [["0", "0"], ["1", "0"], ["0", "0"]]}, f"{name}: is the point at infinity")
        for name in ("vk_beta_2", "vk_gamma_2", "vk_delta_2")
    },
    **{
        f"{name} off the curve": (
            {name: [["1", "2"], ["3", "4"], ["1", "0"]]},
            f"{name}: is not a point of its group",
        )
        for name in ("vk_beta_2", "vk_gamma_2", "vk_delta_2")
    },
    **{
        f"{name} outside the subgroup": ({name: OUTSIDE}, f"{name}: is not a point of its group")
        for name in ("vk_beta_2", "vk_gamma_2", "vk_delta_2")
    },
    "alpha at infinity": ({"vk_alpha_1": ["0", "1", "0"]}, "vk_alpha_1: is the point at infinity"),
    "alpha off the curve": ({"vk_alpha_1": ["1", "1", "1"]}, "vk_alpha_1: is not a point of its group"),
    "alpha not reduced": (
        {"vk_alpha_1": [str(int(KEY["vk_alpha_1"][0]) + BASE_ORDER), *KEY["vk_alpha_1"][1:]]},
        "vk_alpha_1: is not a point of its group",
    ),
    "alpha spelled otherwise": ({"vk_alpha_1": ["+" + KEY["vk_alpha_1"][0], "2", "1"]}, r"vk_alpha_1\[0\]: must be"),
    "input at infinity": ({"IC": [KEY["IC"][0], ["0", "1", "0"]]}, r"IC\[1\]: is the point at infinity"),
    "input off the curve": ({"IC": [KEY["IC"][0], ["1", "1", "1"]]}, r"IC\[1\]: is not a point of its group"),
    "equal inputs": ({"IC": [KEY["IC"][0], KEY["IC"][0]]}, "IC: two points are equal or opposite"),
    "opposite inputs": ({"IC": [KEY["IC"][0], opposite(KEY["IC"][0])]}, "IC: two points are equal or opposite"),
    "an input without a point": ({"nPublic": 2}, "IC: must be a list of 3 points"),
}


@pytest.mark.parametrize(("change", "words"), FORGEABLE.values(), ids=FORGEABLE)
def test_keys_with_which_proofs_can_be_forged_are_refused(change: dict[str, Any], words: str) -> None:
    """The error names the field and what is wrong with it."""
    with pytest.raises(DocumentError, match=f"not a usable verifying key: {words}"):
        verifying_key.parse(json.dumps(KEY | change))


def test_a_key_of_a_ceremony_is_usable() -> None:
    """Gamma is the generator in every ceremony of snarkjs, which is sound while delta is unknown."""
    assert KEY["vk_gamma_2"] == G2
    assert verifying_key.parse(json.dumps(EXPORTED)).n_public == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a verification_key.json"),
        ("{", "expected a verification_key.json"),
        ("[]", "expected a verification_key.json"),
        ("[" * 100_000, "expected a verification_key.json"),
        ('{"nPublic":' + "9" * 100_000 + "}", "expected a verification_key.json"),
        ('"' + "x" * verifying_key.MAX_CHARACTERS + '"', "expected a verification_key.json"),
        ('{"nPublic": 1, "nPublic": 2}', 'the key "nPublic" is duplicated'),
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
