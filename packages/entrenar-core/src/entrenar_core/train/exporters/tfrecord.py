"""TFRecord, the framing of TensorBoard's event files.

A record is the length of its data (uint64), a checksum of that length, the data and a checksum of
the data, all little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord). A checksum is
CRC-32C, the polynomial of iSCSI (RFC 3720, B.4), turned right by 15 bits with a constant added, so
that data with checksums in them do not check themselves.
"""

import struct

__all__ = ["crc32c", "framed"]

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed
_MASK = 0xA282EAD8


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """The record with these data."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
