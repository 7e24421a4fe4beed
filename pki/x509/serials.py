"""Serial numbers of certificates, as operators and other programs write them.

openssl prints one number as `5D1C0A9B`, `5D:1C:0A:9B` and `0x5d1c0a9b`, always in whole octets. All of these are
read, and whole octets in lower case are written, so that a number from a listing is found in what openssl prints.
"""

import re

from pki.errors import SerialError

_OWN_DIGITS = 32  # this authority's serial numbers are 128 random bits
_MAX_DIGITS = 40  # RFC 5280, section 4.1.2.2: at most 20 octets
_SHOWN_CHARACTERS = 60
_HEXADECIMAL = re.compile(r"[0-9a-f]+")


def parse_serial(text: str) -> int:
    """Read a hexadecimal serial number: any case, with or without colons, `0x`, `serial=` and leading zeros.

    Raises:
        SerialError: it is not hexadecimal, zero, longer than 20 octets, or possibly decimal: digits only, and longer
            than this authority's serial numbers. `0x` in front says that such a number is hexadecimal.
    """
    written = text.strip().lower().removeprefix("serial=")
    digits = written.replace(":", "").removeprefix("0x").lstrip("0")
    shown = repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")
    if not digits and _HEXADECIMAL.fullmatch(written.replace(":", "").removeprefix("0x")):
        raise SerialError(f"{shown} is zero, which no certificate has: write a serial number as `pki list` shows it")
    if not _HEXADECIMAL.fullmatch(digits) or len(digits) > _MAX_DIGITS:
        raise SerialError(f"{shown} is not a serial number: write it in hexadecimal, as `pki list` shows it")
    if len(digits) > _OWN_DIGITS and digits.isdecimal() and ":" not in written and not written.startswith("0x"):
        raise SerialError(
            f"serial number {shown} has only decimal digits and is longer than {_OWN_DIGITS} characters: "
            "is it decimal? Write it in hexadecimal, as `pki list` shows it; prefix 0x marks it as hexadecimal"
        )
    return int(digits, 16)


def format_serial(number: int) -> str:
    """Lower-case hexadecimal in whole octets: what openssl prints, apart from case and colons."""
    digits = f"{number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"
