"""`kernels.merging` in one pass over memory each, some elements at a time in the first cache."""

import numpy as np

from entrenar_core.kernels.cpu.arrays import PLAN, address, floats, threads_for, told
from entrenar_core.kernels.cpu.compile import F, exactly, inner, inner_exactly
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.narrow import (
    KINDS,
    nearest_bfloat16,
    nearest_float16,
    numbers_at,
    wide_bfloat16,
    wide_float16,
)
from entrenar_core.kernels.cpu.threads import BLOCK, blocks_of, share_out
from entrenar_core.kernels.cpu.vectors import carray
from entrenar_core.kernels.registry import override

CHUNK = 1024
"""Elements that one step after another is done with, in the first cache."""


@inner
def _settle(x, step):
    """Round in place to what the working type holds."""
    bits = x.view(np.uint32)
    if step == 1:
        for j in range(x.size):
            x[j] = wide_bfloat16(nearest_bfloat16(bits[j]))
    elif step == 2:
        for j in range(x.size):
            x[j] = wide_float16(nearest_float16(bits[j]))


@inner_exactly
def _subtract(model, base, out, step):
    for j in range(out.size):
        out[j] = model[j] - base[j]
    _settle(out, step)


@inner_exactly
def _task_vector_chunks(first, last, inputs, kind, out, step):
    rooms, size = np.empty((2, CHUNK), np.float32), out.shape[1]
    for chunk in range(first, last):
        begin = chunk * CHUNK
        count = min(CHUNK, size - begin)
        base = numbers_at(inputs, kind, begin, count, rooms[0])
        for i in range(len(out)):
            model = numbers_at(inputs, kind, (i + 1) * size + begin, count, rooms[1])
            _subtract(model, base, out[i, begin : begin + CHUNK], step)


@exactly
def _task_vectors(inputs, kind, out, step):
    chunks = (out.shape[1] + CHUNK - 1) // CHUNK
    share_out(_task_vector_chunks, chunks, out.size, (inputs, kind, out, step))


@override("merging.task_vectors", *KINDS)
def task_vectors(inputs, *, work):
    inputs = np.ascontiguousarray(inputs)
    out = np.empty((len(inputs) - 1, inputs.shape[1]), np.float32)
    _task_vectors(address(inputs), KINDS[inputs.dtype.name], out, KINDS[work])
    return out


@inner_exactly
def _add_weighted(row, weight, out, is_first):
    if is_first:
        for j in range(out.size):
            out[j] = row[j] * weight
    else:
        for j in range(out.size):
            out[j] += row[j] * weight


@inner_exactly
def _combine_chunks(first, last, inputs, kind, weights, out):
    room = np.empty(CHUNK, np.float32)
    for chunk in range(first, last):
        begin = chunk * CHUNK
        found = out[begin : begin + CHUNK]
        for i in range(weights.size):
            row = numbers_at(inputs, kind, i * out.size + begin, found.size, room)
            _add_weighted(row, weights[i], found, i == 0)


@exactly
def _combine(inputs, kind, weights, out):
    chunks = (out.size + CHUNK - 1) // CHUNK
    share_out(_combine_chunks, chunks, out.size * weights.size, (inputs, kind, weights, out))


@override("merging.combine", *KINDS)
def combine(inputs, weights):
    inputs, out = np.ascontiguousarray(inputs), np.empty(inputs.shape[1], np.float32)
    kind, weights = KINDS[inputs.dtype.name], np.asarray(weights, np.float32)
    _combine(address(inputs), kind, weights, out)
    return out


@inner_exactly
def _scale_pieces(first, last, x, factors, step):
    pieces = blocks_of(x.shape[1])
    for piece in range(first, last):
        row, begin = piece // pieces, piece % pieces * BLOCK
        part, factor = x[row, begin : begin + BLOCK], factors[row]
        for j in range(part.size):
            part[j] *= factor
        _settle(part, step)


@exactly
def _scale_rows(x, factors, step):
    share_out(_scale_pieces, len(x) * blocks_of(x.shape[1]), x.size, (x, factors, step))


@override("merging.scale_rows", "float32")
def scale_rows(x, factors, *, work):
    _scale_rows(x, factors, KINDS[work])
    return x


@inner_exactly
def _elect(scaled, weights, sign, divisor, out, step):
    """Add up in `out` what has the sign of the sum, and in `divisor` its weights."""
    _add_up(scaled, sign, step)
    for j in range(sign.size):
        sign[j] = F(1) if sign[j] >= F(0) else F(-1)
        out[j] = divisor[j] = F(0)
    for i in range(len(scaled)):
        row, weight = scaled[i, : sign.size], weights[i]
        for j in range(sign.size):
            counts = F(row[j] * sign[j] > F(0))
            out[j] += row[j] * counts
            divisor[j] += weight * counts
    _settle(divisor, step)
    _settle(out, step)


@inner_exactly
def _add_up(rows, out, step):
    row = rows[0, : out.size]
    for j in range(out.size):
        out[j] = row[j]
    for i in range(1, len(rows)):
        row = rows[i, : out.size]
        for j in range(out.size):
            out[j] += row[j]
    _settle(out, step)


@inner_exactly
def _weigh(deltas, at, weights, out, step):
    # rows are cut one by one: of columns of a matrix nobody knows that they lie side by side
    for i in range(len(deltas)):
        delta, weight = deltas[i, at], weights[i]
        row = out[i, : delta.size]
        for j in range(row.size):
            row[j] = delta[j] * weight
        _settle(row, step)


@inner_exactly
def _total(weights, n, out, step):
    for j in range(out.size):
        out[j] = F(0)
    for i in range(n):
        weight = weights[i]
        for j in range(out.size):
            out[j] += weight
    _settle(out, step)


@inner_exactly
def _divide(x, divisor, least, step):
    for j in range(x.size):
        small = divisor[j] == F(0) or abs(divisor[j]) < least
        x[j] /= F(1) if small else divisor[j]
    _settle(x, step)


@inner_exactly
def _finish(x, base, factor, step):
    """base + factor·x, in place."""
    if factor != F(1):
        for j in range(x.size):
            x[j] *= factor
        _settle(x, step)
    for j in range(x.size):
        x[j] += base[j]
    _settle(x, step)


def _consensus(pointer, thread):
    plan = carray(pointer, (PLAN,))
    n, size, threads, step = plan[0], plan[1], plan[2], plan[3]
    deltas, base, out = floats(plan[4], n, size), floats(plan[5], 1, size), floats(plan[6], 1, size)
    numbers = floats(plan[7], 1, n + 1)[0]
    rooms = floats(plan[8], threads * (n + 2), CHUNK)[thread * (n + 2) :]
    scaled, signs, divisors = rooms[:n], rooms[n], rooms[n + 1]
    elect, normalize = plan[9] == 1, plan[10] == 1
    for first in range(thread * CHUNK, size, threads * CHUNK):
        at = slice(first, min(first + CHUNK, size))
        count = at.stop - first
        found, sign, divisor = out[0, at], signs[:count], divisors[:count]
        _weigh(deltas, at, numbers, scaled, step)
        if elect:
            _elect(scaled, numbers, sign, divisor, found, step)
        else:
            _total(numbers, n, divisor, step)
            _add_up(scaled, found, step)
        if normalize:
            _divide(found, divisor, F(0) if elect else F(1e-8), step)
        _finish(found, base[0, at], numbers[n], step)


_share_consensus = Crew(_consensus)


@override("merging.consensus", "float32")
def consensus(deltas, weights, base, *, elect, normalize, factor, work):
    n, size = deltas.shape
    out, numbers = np.empty_like(base), np.append(weights, F(factor)).astype(np.float32)
    deltas, base = np.ascontiguousarray(deltas), np.ascontiguousarray(base)
    threads = threads_for(size)
    rooms, options = np.empty((threads, n + 2, CHUNK), np.float32), (int(elect), int(normalize))
    plan = told(n, size, threads, KINDS[work], deltas, base, out, numbers, rooms, *options)
    _share_consensus(plan, threads)
    return out


@inner_exactly
def _weighted_sum_chunks(first, last, x, weights, out, divisor):
    for chunk in range(first, last):
        at = slice(chunk * CHUNK, chunk * CHUNK + CHUNK)
        found, row, weight = out[at], x[0, at], weights[0]
        for j in range(found.size):
            found[j] = row[j] * weight
        for i in range(1, len(x)):
            row, exact_weight = x[i, at], np.float64(weights[i])
            for j in range(found.size):
                product = np.float64(row[j]) * exact_weight
                found[j] = F(np.float64(found[j]) + product)
        if divisor != F(1):
            for j in range(found.size):
                found[j] /= divisor


@exactly
def _weighted_sum(x, weights, out, divisor):
    chunks = (out.size + CHUNK - 1) // CHUNK
    share_out(_weighted_sum_chunks, chunks, x.size, (x, weights, out, divisor))


@override("merging.weighted_sum", "float32")
def weighted_sum(x, weights, *, divisor=None):
    out = np.empty(x.shape[1], np.float32)
    _weighted_sum(x, weights, out, F(1 if divisor is None else divisor))
    return out
