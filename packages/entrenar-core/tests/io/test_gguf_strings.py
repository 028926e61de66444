"""The places of strings in an array, found in bulk, are those that a plain walk finds."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.io import gguf_strings
from entrenar_core.io.gguf_strings import string_starts


def plain_walk(data: bytes, begin: int, end: int, count: int, max_bytes: int) -> list[int]:
    places = [begin]
    for _ in range(count):
        place = places[-1]
        if place + 8 > end:
            break
        length = struct.unpack_from("<Q", data, place)[0]
        if length > max_bytes or place + 8 + length > end:
            break
        places.append(place + 8 + length)
    return places


def encoded(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(s)) + s for s in strings)


def agrees(data: bytes, begin: int, end: int, count: int, max_bytes: int = 2**26) -> None:
    found = string_starts(data, begin, end, count=count, max_bytes=max_bytes)
    assert found.dtype == np.int64
    assert found.tolist() == plain_walk(data, begin, end, count, max_bytes)


# bytes that look like lengths: zeros, and small numbers before zeros
ODD = st.one_of(
    st.binary(max_size=12),
    st.just(b""),
    st.lists(st.sampled_from([0, 0, 0, 1, 8, 255]), max_size=40).map(bytes),
    st.integers(250, 300).map(lambda n: b"x" * n),
    st.integers(0, 300).map(lambda n: n.to_bytes(8, "little")),
)


@settings(max_examples=100, deadline=None)
@given(
    before=st.binary(max_size=9),
    strings=st.lists(ODD, max_size=30),
    after=st.binary(max_size=20),
    extra=st.integers(-3, 3),
    cut=st.integers(0, 5),
)
def test_any_strings_are_found_as_by_a_plain_walk(before, strings, after, extra, cut):
    data = before + encoded(strings) + after
    count = max(0, len(strings) + extra)
    agrees(data, len(before), max(len(before), len(data) - cut), count)


@settings(max_examples=100, deadline=None)
@given(data=st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 7, 200]), max_size=200).map(bytes))
def test_any_bytes_are_walked_as_by_a_plain_walk(data):
    agrees(data, 0, len(data), 100)


@pytest.mark.tier2
@pytest.mark.parametrize("seed", range(8))
def test_thousands_of_strings_with_odd_ones_among_them(seed):
    rng = np.random.default_rng(seed)
    odd = [b"", bytes(9), b"x" * 256, b"y" * 5000, b"\5\0\0\0\0\0\0\0abcde", b"z" * 255]
    strings = [
        odd[rng.integers(len(odd))]
        if rng.random() < [0, 0.001, 0.05, 0.9][seed % 4]
        else rng.bytes(rng.integers(1, 30))
        for _ in range(8_000)
    ]
    data = b"head" + encoded(strings) + encoded([b"the next value"])
    agrees(data, 4, len(data), len(strings))
    agrees(data, 4, len(data) // 2, len(strings))


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 4087, 4088, 4089, 300_000])
def test_every_length_at_the_edges_of_windows(length):
    strings = [b"a" * 7, b"s" * length, b"b" * 250] * 400
    data = encoded(strings)
    agrees(data, 0, len(data), len(strings))


def test_a_string_longer_than_the_limit_ends_the_walk():
    data = encoded([b"a", b"b" * 300, b"c"])
    agrees(data, 0, len(data), 3, max_bytes=299)
    agrees(data, 0, len(data), 3, max_bytes=300)


def test_lengths_near_two_to_the_64_do_not_wrap():
    data = encoded([b"a"]) + struct.pack("<Q", 2**64 - 8) + bytes(100)
    agrees(data, 0, len(data), 5)


def test_ordinary_vocabularies_are_not_walked_string_by_string(monkeypatch):
    strings = [b"token%d" % number for number in range(50_000)]
    data = encoded(strings)
    singly = []
    follow = gguf_strings._follow
    monkeypatch.setattr(
        gguf_strings, "_follow", lambda *args: singly.append(args[3]) or follow(*args)
    )
    string_starts(data, 0, len(data), count=len(strings), max_bytes=2**26)
    assert sum(singly) < 100
