"""Protocol buffers, as far as they are written here: fields of a message, one after the other.

The encoding is that of https://protobuf.dev/programming-guides/encoding: a field is its number and
wire type in a varint, then its value. A message is the concatenation of its fields.
"""

import struct

__all__ = ["delimited", "double", "float32", "integer"]

_VARINT, _DOUBLE, _DELIMITED, _FLOAT32 = 0, 1, 2, 5


def integer(field: int, value: int) -> bytes:
    """An int32, int64, enum or bool, which is not negative."""
    return _key(field, _VARINT) + _varint(value)


def double(field: int, value: float) -> bytes:
    """A double."""
    return _key(field, _DOUBLE) + struct.pack("<d", value)


def float32(field: int, value: float) -> bytes:
    """A float, the nearest to `value`; infinity for what is beyond the largest."""
    try:
        return _key(field, _FLOAT32) + struct.pack("<f", value)
    except OverflowError:
        return float32(field, float("inf") if value > 0 else float("-inf"))


def delimited(field: int, value: bytes | str) -> bytes:
    """A string, bytes, or a message inside."""
    data = value.encode() if isinstance(value, str) else value
    return _key(field, _DELIMITED) + _varint(len(data)) + data


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first; the eighth says that more follow."""
    assert value >= 0
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
