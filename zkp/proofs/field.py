"""The scalar field of BN254, and the one way its elements are written down: as decimal strings."""

import re

# Order of the scalar field, r in the BN254 literature: every signal of a circuit lies in [0, ORDER).
ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617

_CANONICAL = re.compile(r"0|[1-9][0-9]{0,76}", re.ASCII)  # ORDER has 77 digits


def from_decimal(text: object) -> int | None:
    """The field element that a canonical decimal string stands for.

    None when it is no string, has a sign, a blank, a leading zero, a digit outside ASCII, or stands for a
    number at or above ORDER. Time is bounded whatever the string's length.
    """
    if not isinstance(text, str) or _CANONICAL.fullmatch(text) is None:
        return None
    value = int(text)
    return value if value < ORDER else None
