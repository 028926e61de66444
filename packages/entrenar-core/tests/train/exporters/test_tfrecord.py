"""Checksums and framing of TFRecord, and the wire format of protocol buffers, in their examples."""

import struct

import pytest

from entrenar_core.train.exporters.protobuf import delimited, double, float32, integer
from entrenar_core.train.exporters.tfrecord import crc32c, framed


@pytest.mark.parametrize(
    ("data", "wanted"),  # RFC 3720, B.4, where the bytes of the sums are in order of transmission
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_the_standard(data, wanted):
    assert crc32c(data) == wanted


def test_a_record_is_length_sum_data_sum():
    record = framed(b"abc")
    assert record[:8] == struct.pack("<Q", 3)
    assert record[12:15] == b"abc"
    for at, data in ((8, record[:8]), (15, b"abc")):
        (masked,) = struct.unpack_from("<I", record, at)
        turned = (masked - 0xA282EAD8) % 2**32
        assert (turned << 15 | turned >> 17) % 2**32 == crc32c(data)
    assert len(record) == 19


def test_fields_are_those_of_the_encoding_guide():
    assert integer(1, 150) == bytes.fromhex("089601")
    assert delimited(2, "testing") == bytes.fromhex("120774657374696e67")
    assert delimited(3, integer(1, 150)) == bytes.fromhex("1a03089601")
    assert double(1, 1.0) == bytes.fromhex("09000000000000f03f")
    assert float32(2, 1.0) == bytes.fromhex("150000803f")
    assert integer(16, 2**63 - 1) == bytes.fromhex("8001ffffffffffffffff7f")


@pytest.mark.parametrize(("value", "wanted"), [(1e39, "0000807f"), (-1e39, "000080ff")])
def test_a_number_beyond_single_precision_is_infinite(value, wanted):
    assert float32(2, value) == bytes.fromhex("15" + wanted)
