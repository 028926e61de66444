"""Where the strings of an array begin: a chain of lengths, followed thousands of links at a time.

An array of strings is `length, bytes, length, bytes ...`, each length 8 bytes little-endian: every
string is found only through the one before it. Lengths below 256 show as a byte followed by seven
zeros, and few other places do. So all such places of a window are found at once, and the longest
run in which each leads exactly to the next is taken: what follows from a true beginning is true.
Where the run breaks (a long string, a text with zeros in it) a few links are followed one by one.
"""

import mmap
import struct

import numpy as np

LENGTH_BYTES = 8
_LEAST_WINDOW, _MOST_WINDOW = 2**12, 2**18
_SINGLE_STEPS = 64
_LENGTH = struct.Struct("<Q")


def string_starts(
    data: bytes | mmap.mmap, begin: int, end: int, *, count: int, max_bytes: int
) -> np.ndarray:
    """Where each of `count` strings begins, the first at `begin`, and where the last one ends.

    int64, count + 1 places, a string's place being that of its length. Fewer where a string would
    run past `end` or be longer than `max_bytes`: the last place is then that of the offender.
    """
    memory = np.frombuffer(data, np.uint8)
    parts: list[np.ndarray] = []
    place, left, window = begin, count, _LEAST_WINDOW
    while left:
        run, following = _leading_run(memory[place : min(end, place + window)], left)
        parts.append(run + place)
        left -= len(run)
        place += following
        if not left or following > window // 2:
            window = min(window * 2, _MOST_WINDOW)
            continue
        steps = min(left, _SINGLE_STEPS)
        singles, place = _follow(data, place, end, steps, max_bytes)
        parts.append(np.array(singles, np.int64))
        left -= len(singles)
        if len(singles) < steps:
            break
        window = max(window // 2, _LEAST_WINDOW)
    return np.concatenate([*parts, np.array([place], np.int64)])


def _leading_run(window: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Beginnings, from 0 on, of strings shorter than 256 that lie in the window, and the next one.

    A beginning is taken because the one before it leads there, never because it looks like one.
    """
    zero = window == 0
    two = zero[:-1] & zero[1:]
    four = two[:-2] & two[2:]
    seven = four[:-3] & four[3:]  # seven[i]: the bytes i to i + 6 are zeros
    places = np.flatnonzero(seven[1:])
    if not len(places) or places[0]:
        return places[:0], 0
    following = places + window[places] + LENGTH_BYTES
    breaks = np.flatnonzero(following[:-1] != places[1:])
    length = min(int(breaks[0]) + 1 if len(breaks) else len(places), most)
    if following[length - 1] > len(window):
        length -= 1
    return places[:length], int(following[length - 1]) if length else 0


def _follow(
    data: bytes | mmap.mmap, place: int, end: int, count: int, max_bytes: int
) -> tuple[list[int], int]:
    """The beginnings of at most `count` strings from `place` on, and the place after them."""
    starts = []
    for _ in range(count):
        if place + LENGTH_BYTES > end:
            break
        length = _LENGTH.unpack_from(data, place)[0]
        if length > min(end - place - LENGTH_BYTES, max_bytes):
            break
        starts.append(place)
        place += LENGTH_BYTES + length
    return starts, place
