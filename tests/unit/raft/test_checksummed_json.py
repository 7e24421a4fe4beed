"""Small files with a checksum."""

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.storage.checksummed_json import ChecksumError, dump, load
from tests.unit.raft import repeatable

VALUES = {"term": 12, "voted_for": "coordinator-2"}


def test_values_come_back_as_they_were() -> None:
    """Through one line that an operator can read."""
    assert load(dump(VALUES)) == VALUES
    assert dump(VALUES).startswith(b'{"term": 12, "voted_for": "coordinator-2"}\n')


def test_every_damaged_byte_is_noticed() -> None:
    """Whichever byte of the line changes, and wherever the file is cut off."""
    whole = dump(VALUES)
    for place in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        with pytest.raises(ChecksumError):
            load(bytes(damaged))
        with pytest.raises(ChecksumError):
            load(whole[:place])


@repeatable
@given(data=st.binary(max_size=80))
def test_random_bytes_are_refused(data: bytes) -> None:
    """With nothing but ChecksumError."""
    with pytest.raises(ChecksumError):
        load(data)


@pytest.mark.parametrize("body", [b"[1]", b"null", b"7"])
def test_only_an_object_is_taken(body: bytes) -> None:
    """JSON of another shape is not what was sealed, even with a right checksum."""
    with pytest.raises(ChecksumError):
        load(body + b"\n" + str(google_crc32c.value(body)).encode() + b"\n")
