"""A GGUF header from the first bytes of a file: as from all of it, or how many it takes."""

import random
from pathlib import Path

import pytest

from entrenar_common.errors import EntrenarError
from entrenar_core.io.gguf import Metadata
from entrenar_core.io.gguf_cursor import MoreNeeded
from entrenar_core.io.gguf_header import MAX_HEADER_BYTES, parse_header
from gguf_bad_cases import BAD
from gguf_bytes import SMALL, TEXT, Field, array, fields, serialise, small_fields, tensor, text

PATH = Path("model")
HEADER = len(serialise(small_fields()))


def read(data: bytes, size: int | None = None) -> list:
    """All that a header says, in a form that can be compared."""
    header = parse_header(data, PATH, size=size)
    metadata = Metadata(header.metadata, data[: header.data_start], PATH)
    found: list = [header.version, header.alignment, header.data_start, header.tensors]
    return [*found, [(key, metadata.value(key)) for key in metadata]]


def outcome(data: bytes, size: int | None = None) -> list | str:
    try:
        return read(data, size)
    except EntrenarError as error:
        return f"{type(error).__name__}: {error}"


def outcome_by_pieces(data: bytes, step: int) -> tuple[list | str, int]:
    """The same, where only as many bytes are given as are asked for, or `step` more; and how many
    it took."""
    here = min(step, len(data))
    while True:
        try:
            return outcome(data[:here], len(data)), here
        except MoreNeeded as more:
            assert here < more.length <= len(data)
            here = min(max(more.length, here + step), len(data))


def test_every_prefix_gives_the_whole_header_or_says_that_more_is_needed():
    whole = read(SMALL)
    for length in range(len(SMALL) + 1):
        if length < HEADER:
            with pytest.raises(MoreNeeded) as caught:
                read(SMALL[:length], len(SMALL))
            assert length < caught.value.length <= HEADER
        else:
            assert read(SMALL[:length], len(SMALL)) == whole


@pytest.mark.parametrize("step", [0, 1, 7, 64])
def test_no_more_than_the_header_is_asked_for(step):
    found, taken = outcome_by_pieces(SMALL, step)
    assert found == read(SMALL)
    assert taken < HEADER + max(step, 1)


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_file_is_refused_in_the_same_words(case):
    data = BAD[case][0]
    wanted = outcome(data)
    assert isinstance(wanted, str)
    for step in (0, 16):
        assert outcome_by_pieces(data, step)[0] == wanted


@pytest.mark.tier2
def test_files_with_bytes_set_at_random_come_out_the_same():
    rng = random.Random(0)
    accepted = 0
    for _ in range(500):
        data = bytearray(SMALL[: rng.choice([len(SMALL)] * 3 + [rng.randrange(len(SMALL))])])
        for _ in range(rng.choice([1, 1, 2])):
            if data:
                data[rng.randrange(min(len(data), HEADER))] = rng.choice([0, 1, 0x7F, 0xFF])
        wanted = outcome(bytes(data))
        accepted += not isinstance(wanted, str)
        assert outcome_by_pieces(bytes(data), rng.choice([8, 50, 200]))[0] == wanted
    assert 20 < accepted < 480


@pytest.mark.parametrize("long", [300, 70_000])
def test_an_array_of_texts_may_be_cut_anywhere(long):
    """Short ones are found by the window, long ones one by one: cut in lengths and in texts."""
    words = [b"a" * (i % 5) for i in range(600)] + [b"b" * long, b"", b"c"]
    fitted: list[Field] = [f for word in words for f in text(word)]
    data = serialise(
        fields([array(b"t", TEXT, len(words), *fitted)], [tensor(b"a")]), bytes(32)
    )  # fmt: skip
    wanted = read(data)
    for length in [*range(0, 6000, 41), *range(len(data) - 200, len(data))]:
        try:
            assert read(data[:length], len(data)) == wanted
        except MoreNeeded as more:
            assert length < more.length < len(data) - 32


def test_no_header_can_be_longer_than_the_limit():
    one = serialise(tensor(b"n" * 63, (1, 1, 1, 1)))
    assert 512 * 2**20 + 10**6 * len(one) == MAX_HEADER_BYTES
