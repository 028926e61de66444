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


def test_fields_are_read_as_they_were_written():
    content = (
        protobuf.integer(1, 2**64 - 1)
        + protobuf.delimited(2000, b"")
        + protobuf.fixed64(3, 1)
        + protobuf.float32(4, 0.0)
    )
    wanted = [(1, 2**64 - 1), (2000, b""), (3, b"\x01" + bytes(7)), (4, bytes(4))]
    assert list(protobuf.fields(content)) == wanted


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("0a05616263", "cut off"),
        ("0900", "cut off"),
        ("0bff", "unknown kind 3"),
        ("ff" * 11, "does not end"),
        ("08", "does not end"),
        ("0affffffffffffffffff01", "cut off"),
    ],
)
def test_what_is_no_message_is_an_error(content, what):
    with pytest.raises(ValueError, match=what):
        list(protobuf.fields(bytes.fromhex(content)))
