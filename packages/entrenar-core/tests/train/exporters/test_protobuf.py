"""Protocol Buffers' wire format: the examples of its description, and the edges of each kind."""

import math
import struct

import pytest

from entrenar_core.train.exporters import protobuf


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (150, "9601"),
        (2**64 - 1, "ff" * 9 + "01"),
        (-2, "fe" + "ff" * 8 + "01"),
    ],
)
def test_a_number_is_in_groups_of_seven_bits(value, wanted):
    assert protobuf.varint(value).hex() == wanted


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        (protobuf.integer(1, 150), "089601"),
        (protobuf.delimited(2, "testing"), "120774657374696e67"),
        (protobuf.message(3, protobuf.integer(1, 150)), "1a03089601"),
        (protobuf.fixed64(1, 1), "09" + "01" + "00" * 7),
        (protobuf.double(16, 1.0), "8101" + "00" * 6 + "f03f"),
        (protobuf.float32(2, 1.0), "15" + "0000803f"),
        (protobuf.delimited(1, b""), "0a00"),
    ],
)
def test_a_field_is_its_number_and_kind_and_then_the_value(field, wanted):
    assert field.hex() == wanted


def test_what_a_float_cannot_hold_is_infinite():
    assert protobuf.float32(1, -1e300)[1:] == struct.pack("<f", -math.inf)


def test_half_a_surrogate_pair_does_not_stop_a_message():
    assert protobuf.delimited(1, "a\ud800") == b"\x0a\x02a?"
