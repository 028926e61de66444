"""A file on the hub as a file object: a reader finds what it finds in a file on a disk."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_core.io.hub_ranges import RangeFile

DATA = bytes(range(256)) * 20 + b"\nend\n"


class Remote:
    """Stands in for a HubFile; `taken` has the ranges that were fetched."""

    def __init__(self, data):
        self.data, self.size, self.taken = data, len(data), []

    def take(self, begin, length):
        self.taken.append((begin, length))
        return self.data[begin : begin + length]


steps = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 6000)),
    st.tuples(st.just("seek"), st.integers(0, 6000), st.just(0)),
    st.tuples(st.just("seek"), st.integers(-len(DATA), 50), st.just(2)),
    st.tuples(st.just("seek"), st.integers(0, 50), st.just(1)),
    st.tuples(st.just("tell")),
)


@given(st.lists(steps))
def test_it_reads_and_moves_as_a_file_in_memory(script):
    found, expected = RangeFile(Remote(DATA)), io.BytesIO(DATA)
    for name, *arguments in script:
        assert getattr(found, name)(*arguments) == getattr(expected, name)(*arguments)


def test_lines_come_out_of_a_buffer_around_it():
    remote = Remote(DATA)
    buffered = io.BufferedReader(RangeFile(remote), 1000)
    assert buffered.readlines() == io.BytesIO(DATA).readlines()
    assert [begin for begin, _ in remote.taken][:3] == [0, 1000, 2000]


def test_the_end_is_fetched_once():
    remote = Remote(DATA)
    file = RangeFile(remote)
    file.seek(-100, 2)
    file.read(100)
    for begin in (-100, -8, -50):
        file.seek(begin, 2)
        assert file.read(8) == DATA[begin : begin + 8 or None]
    assert len(remote.taken) == 1


def test_there_is_nothing_before_the_beginning():
    with pytest.raises(ValueError, match="-1"):
        RangeFile(Remote(DATA)).seek(-1)
