"""Serial numbers: one parser for all notations, and one output format."""

import pytest

from pki.errors import SerialError
from pki.x509.serials import format_serial, parse_serial

OWN = 0x0D1C0A9B00112233445566778899AABB  # 128 bits, as this authority draws them; openssl prints its leading zero


@pytest.mark.parametrize(
    "text",
    [
        "0d1c0a9b00112233445566778899aabb",
        "0D1C0A9B00112233445566778899AABB",
        "d1c0a9b00112233445566778899aabb",
        "0x0D1C0A9B00112233445566778899AABB",
        "0XD1C0A9B00112233445566778899AABB",
        "0d:1c:0a:9b:00:11:22:33:44:55:66:77:88:99:aa:bb",
        "serial=0D1C0A9B00112233445566778899AABB",
        "  0D:1C:0A:9B:00:11:22:33:44:55:66:77:88:99:AA:BB\n",
    ],
)
def test_every_way_of_writing_is_the_same_number(text: str) -> None:
    """Case, colons, 0x, leading zeros and space around it do not matter."""
    assert parse_serial(text) == OWN


@pytest.mark.parametrize("text", ["", "0x", ":", "worker-1", "0x0x1", "-1", "1 2", "f" * 41, "²", "٣"])
def test_other_text_is_refused(text: str) -> None:
    """The error says what is expected; no other alphabet's digits are taken for hexadecimal."""
    with pytest.raises(SerialError, match="hexadecimal, as `pki list` shows it"):
        parse_serial(text)


@pytest.mark.parametrize("text", ["0", "00:00", "0x0"])
def test_zero_is_said_to_be_zero(text: str) -> None:
    """It is hexadecimal, and no certificate's."""
    with pytest.raises(SerialError, match="is zero"):
        parse_serial(text)


def test_a_number_that_may_be_decimal_is_questioned() -> None:
    """Decimal digits only, and longer than 32 characters: what a decimal listing of our serial numbers shows."""
    with pytest.raises(SerialError, match="is it decimal"):
        parse_serial(str(0xFFEEDDCCBBAA99887766554433221100))
    assert parse_serial("1" * 32) == int("1" * 32, 16)
    assert parse_serial("0" * 8 + "1" * 32) == int("1" * 32, 16)
    assert parse_serial("0x" + "1" * 33) == int("1" * 33, 16)
    assert parse_serial("11:" * 19 + "11") == int("1" * 40, 16)


@pytest.mark.parametrize(("number", "text"), [(0xA, "0a"), (0xAB, "ab"), (OWN, f"0{OWN:x}")])
def test_listings_keep_leading_zeros(number: int, text: str) -> None:
    """Whole octets, so that what openssl prints is found in a listing, and reading it back gives the number."""
    assert format_serial(number) == text
    assert parse_serial(text) == number
