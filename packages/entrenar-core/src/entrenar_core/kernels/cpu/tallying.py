"""`kernels.tallying` with counts of each thread's own, and sums of pieces."""

import numpy as np

from entrenar_core.kernels.cpu.arrays import threads_for
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.threads import BLOCK, share_out
from entrenar_core.kernels.registry import override
from entrenar_core.kernels.tallying import FACTS, PATTERNS

HALF = np.uint64(0xFFFF)
MAGNITUDE = np.uint32(0x7FFFFFFF)
INFINITY = np.uint32(0x7F800000)
TOP = 0x7F800000
"""As `_ordered` has them, ∞ is this, and −∞ is −TOP − 1; NaN is beyond either."""

SHORT = 1024
"""Elements whose distances to their mean are added up in float32."""


@inner
def _count_fours(words, room):
    """Neighbours are often equal, and one count has to wait for the other: so two of each."""
    even, odd = room[0], room[1]
    for j in range(words.size):
        word = words[j]
        even[word & HALF] += np.uint32(1)
        odd[(word >> np.uint64(16)) & HALF] += np.uint32(1)
        even[(word >> np.uint64(32)) & HALF] += np.uint32(1)
        odd[word >> np.uint64(48)] += np.uint32(1)


@inner
def _gather(rooms, counts):
    for thread in range(len(rooms)):
        for j in range(counts.size):
            counts[j] += np.int64(rooms[thread, 0, j]) + np.int64(rooms[thread, 1, j])


@inner
def _tally_parts(first, last, words, rooms):
    part = (words.size + len(rooms) - 1) // len(rooms)
    for thread in range(first, last):
        rooms[thread] = 0
        _count_fours(words[thread * part : thread * part + part], rooms[thread])


@jit
def _tally(words, counts, rooms):
    share_out(_tally_parts, len(rooms), 4 * words.size, (words, rooms))
    _gather(rooms, counts)


def _rooms(size):
    return np.empty((threads_for(size), 2, PATTERNS), np.uint32)


@override("tallying.tally", "uint16")
def tally(bits, counts):
    whole = bits.size // 4 * 4
    bits = np.ascontiguousarray(bits)
    _tally(bits[:whole].view(np.uint64), counts, _rooms(bits.size))
    np.add.at(counts, bits[whole:], 1)
    return counts


@inner
def _ordered(bits):
    """Integers that are ordered as the float32 of these bits are, and back: `peak_of` says why."""
    bits = np.int32(bits)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inner
def _bounds(bits):
    """The least and the largest of all, as `_ordered` has them, and how many zeros there are."""
    least, largest, zeros = np.int32(0x7FFFFFFF), np.int32(-0x80000000), np.int32(0)
    for j in range(bits.size):
        order = _ordered(bits[j])
        least, largest = min(least, order), max(largest, order)
        zeros += np.int32((bits[j] & MAGNITUDE) == np.uint32(0))
    return least, largest, zeros


@inner
def _sums(x, found):
    """Σx and Σx² of a few, from their distances to about their mean: those are added up in float32,
    where numbers that are nearly equal would lose what they differ by."""
    total = F(0)
    for j in range(x.size):
        total += x[j]
    mean = total / F(x.size)
    distance = squares = F(0)
    for j in range(x.size):
        far = x[j] - mean
        distance += far
        squares += far * far
    n, wide, rest = np.float64(x.size), np.float64(mean), np.float64(distance)
    found[0] += n * wide + rest
    found[1] += np.float64(squares) + wide * (2.0 * rest + n * wide)


@inner
def _all_finite(part, least, largest, zeros, found):
    for first in range(0, part.size, SHORT):
        _sums(part[first : first + SHORT], found)
    found[2] = np.float64(np.int32(_ordered(least)).view(np.float32))
    found[3] = np.float64(np.int32(_ordered(largest)).view(np.float32))
    found[4] = zeros


@inner
def _one_by_one(x, bits, found):
    """For the few pieces in which something is not finite."""
    for j in range(x.size):
        size, wide = bits[j] & MAGNITUDE, np.float64(x[j])
        if size > INFINITY:
            found[5] += 1
        elif size == INFINITY:
            found[6] += 1
        else:
            found[0] += wide
            found[1] += wide * wide
            found[2], found[3] = min(found[2], wide), max(found[3], wide)
            found[4] += size == 0


@inner
def _count_upper(bits, room):
    even, odd = room[0], room[1]
    whole = bits.size // 4 * 4
    words = bits[:whole].view(np.uint64)  # two at a time: a narrow load costs as much as a wide one
    for j in range(0, words.size, 2):
        one, two = words[j], words[j + 1]
        even[(one >> np.uint64(16)) & HALF] += np.uint32(1)
        odd[one >> np.uint64(48)] += np.uint32(1)
        even[(two >> np.uint64(16)) & HALF] += np.uint32(1)
        odd[two >> np.uint64(48)] += np.uint32(1)
    for j in range(whole, bits.size):
        even[bits[j] >> np.uint32(16)] += np.uint32(1)


@inner
def _survey_pieces(first, last, x, rooms, parts):
    per_thread = (len(parts) + len(rooms) - 1) // len(rooms)
    for thread in range(first, last):
        rooms[thread] = 0
        begin = thread * per_thread
        for piece in range(begin, min(begin + per_thread, len(parts))):
            part = x[piece * BLOCK : piece * BLOCK + BLOCK]
            bits, found = part.view(np.uint32), parts[piece]
            _count_upper(bits, rooms[thread])
            least, largest, zeros = _bounds(bits)
            if least > -TOP - 1 and largest < TOP:
                _all_finite(part, least, largest, zeros, found)
            else:
                _one_by_one(part, bits, found)


@jit
def _survey(x, counts, rooms, parts):
    share_out(_survey_pieces, len(rooms), x.size, (x, rooms, parts))
    _gather(rooms, counts)


@override("tallying.survey", "float32")
def survey(x, counts):
    x = np.ascontiguousarray(x)
    parts = np.zeros(((x.size + BLOCK - 1) // BLOCK, FACTS))
    parts[:, 2], parts[:, 3] = np.inf, -np.inf
    _survey(x, counts, _rooms(x.size), parts)
    found = parts.sum(0)
    found[2], found[3] = parts[:, 2].min(initial=np.inf), parts[:, 3].max(initial=-np.inf)
    return found
