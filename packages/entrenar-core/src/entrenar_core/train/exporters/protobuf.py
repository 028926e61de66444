"""Protocol Buffers: fields of a message as bytes, and those of a short answer back.

A message is the concatenation of its fields, so

    integer(1, step) + delimited(2, name) + message(3, double(1, loss))

is one with three. Every function writes its field also where the value is the default of proto3,
which a field of a `oneof` needs; a caller leaves out what need not be there.

Source: "Encoding", protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Iterator

__all__ = [
    "delimited",
    "double",
    "fields",
    "fixed64",
    "float32",
    "integer",
    "message",
    "varint",
]

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_64_BITS = (1 << 64) - 1


def varint(value: int) -> bytes:
    """A number in groups of 7 bits, the lowest first; a negative one as its 64-bit complement.

    >>> varint(150).hex(), varint(-1).hex()
    ('9601', 'ffffffffffffffffff01')
    """
    value &= _64_BITS
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def integer(number: int, value: int) -> bytes:
    """A field of the kind int32, int64, uint32, uint64, bool or enum.

    >>> integer(1, 150).hex()
    '089601'
    """
    return varint(number << 3 | _VARINT) + varint(value)


def fixed64(number: int, value: int) -> bytes:
    """A field of the kind fixed64 or sfixed64."""
    return varint(number << 3 | _EIGHT_BYTES) + struct.pack("<Q", value & _64_BITS)


def double(number: int, value: float) -> bytes:
    """A field of the kind double."""
    return varint(number << 3 | _EIGHT_BYTES) + struct.pack("<d", value)


def float32(number: int, value: float) -> bytes:
    """A field of the kind float; what is too large for one is infinite."""
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return varint(number << 3 | _FOUR_BYTES) + packed


def delimited(number: int, value: bytes | str) -> bytes:
    """A field of the kind bytes or string. Half a surrogate pair, which UTF-8 has not, becomes "?".

    >>> delimited(2, "testing").hex()
    '120774657374696e67'
    """
    content = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return varint(number << 3 | _LENGTH) + varint(len(content)) + content


def message(number: int, *fields: bytes) -> bytes:
    """A field that is a message, of these fields."""
    return delimited(number, b"".join(fields))


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field: of a varint as a number without sign, of all other
    kinds as bytes. Raises ValueError where the bytes are no message.

    >>> list(fields(bytes.fromhex("089601120774657374696e67")))
    [(1, 150), (2, b'testing')]
    """
    place = 0
    while place < len(content):
        tag, place = _varint_at(content, place)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, place = _varint_at(content, place)
        else:
            if kind == _LENGTH:
                size, place = _varint_at(content, place)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                size = 8 if kind == _EIGHT_BYTES else 4
            else:
                raise ValueError(f"field {number} at byte {place} is of the unknown kind {kind}")
            if size > len(content) - place:
                raise ValueError(f"field {number} at byte {place} is cut off")
            value, place = content[place : place + size], place + size
        yield number, value


def _varint_at(content: bytes, place: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends."""
    value = 0
    for count, byte in enumerate(content[place : place + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & _64_BITS, place + count + 1
    raise ValueError(f"the number at byte {place} does not end")
