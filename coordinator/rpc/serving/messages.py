"""Length-prefixed messages of gRPC: a flag for compression, four bytes of length, the message."""

from typing import NamedTuple

_PREFIX_BYTES = 5


class MessageError(Exception):
    """A message that cannot be read. `compressed`: it is compressed, which this server does not support."""

    def __init__(self, text: str, *, compressed: bool = False) -> None:
        super().__init__(text)
        self.compressed = compressed


class Oversized(NamedTuple):
    """The place of a message that is larger than the limit, in bytes; nothing after it is read."""

    size: int


def frame(message: bytes) -> bytes:
    """Return the message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class MessageReader:
    """Assembles messages from parts of a request body."""

    def __init__(self, limit: int) -> None:
        """Prepare; `limit` is the size of the largest message in bytes."""
        self._limit = limit
        self._buffer = bytearray()  # one object, however small the parts: a peer chooses their size
        self._needed = _PREFIX_BYTES
        self._oversized = False

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete message that are held here."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes | Oversized]:
        """Return the messages that are complete now. Raises `MessageError`."""
        if self._oversized:
            return []
        if not self._buffer and len(data) >= self._needed:
            return self._split(data)
        self._buffer += data
        if len(self._buffer) < self._needed:
            return []
        received = bytes(self._buffer)
        self._buffer.clear()
        return self._split(received)

    def _split(self, data: bytes) -> list[bytes | Oversized]:
        messages: list[bytes | Oversized] = []
        at, size = 0, len(data)
        self._needed = _PREFIX_BYTES
        while size - at >= _PREFIX_BYTES:
            if data[at]:
                raise MessageError("the message is compressed; send it uncompressed", compressed=True)
            length = int.from_bytes(data[at + 1 : at + _PREFIX_BYTES], "big")
            if length > self._limit:
                self._oversized = True
                return [*messages, Oversized(length)]
            end = at + _PREFIX_BYTES + length
            if end > size:
                self._needed = end - at
                break
            messages.append(data[at + _PREFIX_BYTES : end])
            at = end
        self._buffer += data[at:]
        return messages
