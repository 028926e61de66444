"""`kernels.softmax`: a row stays in the cache for its largest element, its sum and its result.

A loop that adds up writes nothing: LLVM takes one number after the other, and so in another order,
where what is written lies just behind what is read.
"""

import math
from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, inner_exactly, jit
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.past_caches import result, store_past
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    I32,
    I64,
    INTEGER,
    NUMBER,
    WIDTH,
    Builder,
    constant,
    each_vector,
    exponential,
    fetch,
    folded,
    greater,
    load,
    plus,
    routine,
    spread,
    store,
    times,
    variable,
)
from entrenar_core.kernels.registry import override


def _weigh(builder: Builder, x: Any, weights: Any, vectors: Any, told: Any) -> None:
    """Write a row's largest element and the sum of all exp(x − it) to `told`, and these to
    `weights` where there is such a place; have the processor read the next row meanwhile."""
    highest = variable(builder, constant(-math.inf))
    with each_vector(builder, vectors) as offset:
        value = greater(builder, load(builder, builder.add(x, offset)), builder.load(highest))
        builder.store(value, highest)
    peak = folded(builder, builder.load(highest), greater)
    shift, following = builder.fneg(peak), builder.add(x, builder.mul(vectors, I64(BYTES)))
    total = variable(builder, constant(0.0))
    with each_vector(builder, vectors) as offset:
        fetch(builder, builder.add(following, offset))
        value = plus(builder, load(builder, builder.add(x, offset)), shift)
        weight = exponential(builder, value)
        builder.store(plus(builder, builder.load(total), weight), total)
        if weights is not None:
            store(builder, weight, builder.add(weights, offset))
    total = folded(builder, builder.load(total), plus)
    for place, value in enumerate((peak, total)):
        number = builder.extract_element(value, I32(0))
        store(builder, number, builder.add(told, I64(4 * place)))


@routine(*(INTEGER,) * 4)
def _weights(builder, x, weights, vectors, told):
    _weigh(builder, x, weights, vectors, told)


@routine(*(INTEGER,) * 3)
def _weight(builder, x, vectors, told):
    _weigh(builder, x, None, vectors, told)


@routine(*(INTEGER,) * 3, NUMBER)
def _softmax_past(builder, weights, y, vectors, factor):
    """weights · factor, written past the caches."""
    factor = spread(builder, factor)
    with each_vector(builder, vectors) as offset:
        value = times(builder, load(builder, builder.add(weights, offset)), factor)
        store_past(builder, value, builder.add(y, offset))


@routine(*(INTEGER,) * 3, NUMBER, NUMBER)
def _log_softmax_past(builder, x, y, vectors, peak, log):
    """(x − peak) − log, written past the caches."""
    shift, less = (builder.fneg(spread(builder, number)) for number in (peak, log))
    with each_vector(builder, vectors) as offset:
        value = plus(builder, load(builder, builder.add(x, offset)), shift)
        store_past(builder, plus(builder, value, less), builder.add(y, offset))


@routine(*(INTEGER,) * 4, NUMBER)
def _softmax_grad_past(builder, g, y, dx, vectors, dot):
    """y · (g − dot), written past the caches."""
    shift = builder.fneg(spread(builder, dot))
    with each_vector(builder, vectors) as offset:
        gi, yi = (load(builder, builder.add(at, offset)) for at in (g, y))
        value = times(builder, yi, plus(builder, gi, shift))
        store_past(builder, value, builder.add(dx, offset))


@routine(*(INTEGER,) * 4, NUMBER)
def _log_softmax_grad_past(builder, g, y, dx, vectors, total):
    """g − exp(y) · total, written past the caches."""
    factor = builder.fneg(spread(builder, total))
    with each_vector(builder, vectors) as offset:
        gi, yi = (load(builder, builder.add(at, offset)) for at in (g, y))
        value = plus(builder, times(builder, exponential(builder, yi), factor), gi)
        store_past(builder, value, builder.add(dx, offset))


@inner
def _softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        shifted = x[j] - peak
        y[j] = F(0) if shifted < F(-87) else exp(shifted)  # −∞ has the weight 0
    for j in range(y.size):
        total += y[j]
    inverse = F(1) / total
    for j in range(y.size):
        y[j] *= inverse


@inner
def _dot(g, y):
    dot = F(0)
    for j in range(y.size):
        dot += g[j] * y[j]
    return dot


@inner
def _softmax_grad_part(g, y, dot, dx):
    for j in range(y.size):
        dx[j] = y[j] * (g[j] - dot)


@inner_exactly  # peak + log is not formed: one may be tiny beside the other
def _subtract(x, peak, log, y):
    for j in range(x.size):
        y[j] = (x[j] - peak) - log


@inner
def _log_softmax_row(x, y):
    peak = peak_of(x)
    total = F(0)
    for j in range(x.size):
        total += exp(x[j] - peak)
    _subtract(x, peak, np.log(total), y)


@inner
def _total(g):
    total = F(0)
    for j in range(g.size):
        total += g[j]
    return total


@inner
def _log_softmax_grad_part(g, y, total, dx):
    for j in range(g.size):
        dx[j] = g[j] - exp(y[j]) * total


@inner
def _softmax_rows(first, last, x, y, past):
    if past:
        vectors, weights, told = x.shape[1] // WIDTH, np.empty(x.shape[1], F), np.empty(2, F)
        for i in range(first, last):
            _weights(x[i].ctypes.data, weights.ctypes.data, vectors, told.ctypes.data)
            _softmax_past(weights.ctypes.data, y[i].ctypes.data, vectors, F(1) / told[1])
    else:
        for i in range(first, last):
            _softmax_row(x[i], y[i])


@inner
def _softmax_grad_rows(first, last, g, y, dx, past):
    if past:
        for i in range(first, last):
            gi, yi, di = g[i].ctypes.data, y[i].ctypes.data, dx[i].ctypes.data
            _softmax_grad_past(gi, yi, di, y.shape[1] // WIDTH, _dot(g[i], y[i]))
    else:
        for i in range(first, last):
            _softmax_grad_part(g[i], y[i], _dot(g[i], y[i]), dx[i])


@inner
def _log_softmax_rows(first, last, x, y, past):
    if past:
        vectors, told = x.shape[1] // WIDTH, np.empty(2, F)
        for i in range(first, last):
            xi, yi = x[i].ctypes.data, y[i].ctypes.data
            _weight(xi, vectors, told.ctypes.data)
            _log_softmax_past(xi, yi, vectors, told[0], np.log(told[1]))
    else:
        for i in range(first, last):
            _log_softmax_row(x[i], y[i])


@inner
def _log_softmax_grad_rows(first, last, g, y, dx, past):
    if past:
        for i in range(first, last):
            gi, yi, di = g[i].ctypes.data, y[i].ctypes.data, dx[i].ctypes.data
            _log_softmax_grad_past(gi, yi, di, y.shape[1] // WIDTH, _total(g[i]))
    else:
        for i in range(first, last):
            _log_softmax_grad_part(g[i], y[i], _total(g[i]), dx[i])


@jit
def _softmax(x, y, past):
    share_out(_softmax_rows, x.shape[0], x.size, (x, y, past))


@jit
def _softmax_grad(g, y, dx, past):
    share_out(_softmax_grad_rows, y.shape[0], y.size, (g, y, dx, past))


@jit
def _log_softmax(x, y, past):
    share_out(_log_softmax_rows, x.shape[0], x.size, (x, y, past))


@jit
def _log_softmax_grad(g, y, dx, past):
    share_out(_log_softmax_grad_rows, y.shape[0], y.size, (g, y, dx, past))


@override("softmax.softmax", "float32")
def softmax(x):
    y, past = result(x.shape)
    _softmax(np.ascontiguousarray(x), y, past)
    return y


@override("softmax.softmax_grad", "float32")
def softmax_grad(g, y):
    dx, past = result(y.shape)
    _softmax_grad(np.ascontiguousarray(g), np.ascontiguousarray(y), dx, past)
    return dx


@override("softmax.log_softmax", "float32")
def log_softmax(x):
    y, past = result(x.shape)
    _log_softmax(np.ascontiguousarray(x), y, past)
    return y


@override("softmax.log_softmax_grad", "float32")
def log_softmax_grad(g, y):
    dx, past = result(y.shape)
    _log_softmax_grad(np.ascontiguousarray(g), np.ascontiguousarray(y), dx, past)
    return dx
