"""`kernels.norm` in one pass over the rows each way."""

from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.past_caches import result, store_past
from entrenar_core.kernels.cpu.threads import LANES, share_out
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    I64,
    INTEGER,
    NUMBER,
    WIDTH,
    Builder,
    each_vector,
    fetch,
    load,
    plus,
    routine,
    spread,
    store,
    times,
)
from entrenar_core.kernels.registry import KERNELS, override


def _write_past(
    builder: Builder, x: Any, weight: Any, y: Any, vectors: Any, r: Any, centre: Any = None
) -> None:
    """x · r · weight, written past the caches, where the next row is read ahead. `centre` is the
    mean, which is subtracted from x, and where the bias is."""
    scale, following = spread(builder, r), builder.mul(vectors, I64(BYTES))
    shift = centre and builder.fneg(spread(builder, centre[0]))
    with each_vector(builder, vectors) as offset:
        at_x = builder.add(x, offset)
        value = load(builder, at_x)
        fetch(builder, builder.add(at_x, following))
        value = times(builder, plus(builder, value, shift) if shift else value, scale)
        value = times(builder, value, load(builder, builder.add(weight, offset)))
        if centre:
            value = plus(builder, value, load(builder, builder.add(centre[1], offset)))
        store_past(builder, value, builder.add(y, offset))


@routine(*(INTEGER,) * 4, NUMBER)
def _rms_past(builder, x, weight, y, vectors, r):
    _write_past(builder, x, weight, y, vectors, r)


@routine(*(INTEGER,) * 5, NUMBER, NUMBER)
def _layer_past(builder, x, weight, bias, y, vectors, mean, r):
    _write_past(builder, x, weight, y, vectors, r, (mean, bias))


def _write_grad_past(
    builder: Builder, g: Any, x: Any, weight: Any, dx: Any, dweight: Any, vectors: Any,
    r: Any, dot: Any, centre: Any = None,
) -> None:  # fmt: skip
    """(g · weight − x · dot) · r, written past the caches, where the next rows are read ahead; what
    a row adds to the gradient of weight is added to it. `centre` is the mean of x and that of
    g · weight, which are subtracted from these, and where the gradient of the bias is."""
    slope, scale = builder.fneg(spread(builder, dot)), spread(builder, r)
    following = builder.mul(vectors, I64(BYTES))
    shift, less = (centre and builder.fneg(spread(builder, centre[i])) for i in (0, 1))
    with each_vector(builder, vectors) as offset:
        at_x, at_g = builder.add(x, offset), builder.add(g, offset)
        xi, gi = load(builder, at_x), load(builder, at_g)
        for at in (at_x, at_g):
            fetch(builder, builder.add(at, following))
        value = times(builder, gi, load(builder, builder.add(weight, offset)))
        if centre:
            xi, value = plus(builder, xi, shift), plus(builder, value, less)
            _add(builder, gi, builder.add(centre[2], offset))
        _add(builder, times(builder, times(builder, gi, xi), scale), builder.add(dweight, offset))
        value = plus(builder, value, times(builder, xi, slope))
        store_past(builder, times(builder, value, scale), builder.add(dx, offset))


def _add(builder: Builder, value: Any, address: Any) -> None:
    store(builder, plus(builder, load(builder, address), value), address)


@routine(*(INTEGER,) * 6, NUMBER, NUMBER)
def _rms_grad_past(builder, g, x, weight, dx, dweight, vectors, r, dot):
    _write_grad_past(builder, g, x, weight, dx, dweight, vectors, r, dot)


@routine(*(INTEGER,) * 7, *(NUMBER,) * 4)
def _layer_grad_past(builder, g, x, weight, dx, dweight, dbias, vectors, mean, r, total, dot):
    centre = mean, total, dbias
    _write_grad_past(builder, g, x, weight, dx, dweight, vectors, r, dot, centre)


@inner
def _inverse_rms(x, eps):
    total = F(0)
    for j in range(x.size):
        total += x[j] * x[j]
    return F(1) / np.sqrt(total / F(x.size) + eps)


@inner
def _rms_row(x, weight, y, eps):
    r = _inverse_rms(x, eps)
    for j in range(x.size):
        y[j] = x[j] * r * weight[j]
    return r


@inner
def _rms_dot(g, x, weight, r):
    """Of a row, the mean of g · weight · x, in units of x's mean square."""
    dot = F(0)
    for j in range(x.size):
        dot += g[j] * weight[j] * x[j]
    return dot * r * r / F(x.size)


@inner
def _rms_grad_lane(g, x, weight, rstd, dx, add, dweight, past):
    width = x.shape[1]
    dweight[:] = F(0)
    for i in range(x.shape[0]):
        gi, xi, di, r = g[i], x[i], dx[i], rstd[i]
        dot = _rms_dot(gi, xi, weight, r)
        if past:
            _rms_grad_past(
                gi.ctypes.data, xi.ctypes.data, weight.ctypes.data, di.ctypes.data,
                dweight.ctypes.data, width // WIDTH, r, dot,
            )  # fmt: skip
        elif add:
            for j in range(width):
                dweight[j] += gi[j] * xi[j] * r
                di[j] += (gi[j] * weight[j] - xi[j] * dot) * r
        else:
            for j in range(width):
                dweight[j] += gi[j] * xi[j] * r
                di[j] = (gi[j] * weight[j] - xi[j] * dot) * r


@inner
def _moments(x, eps):
    """Mean, and one over the standard deviation."""
    total = F(0)
    for j in range(x.size):
        total += x[j]
    # in float64, since LLVM multiplies by an inverse, and what is left of a row is small beside it
    mean = F(np.float64(total) / np.float64(x.size))
    squares = F(0)
    for j in range(x.size):
        squares += (x[j] - mean) * (x[j] - mean)
    return mean, F(1) / np.sqrt(squares / F(x.size) + eps)


@inner
def _layer_row(x, weight, bias, y, eps):
    mean, r = _moments(x, eps)
    for j in range(x.size):
        y[j] = (x[j] - mean) * r * weight[j] + bias[j]
    return mean, r


@inner
def _layer_sums(g, x, weight, mean, r):
    """Of a row, the mean of g · weight, and that of its product with what x is in units of its
    deviation, over the deviation."""
    total, dot = F(0), F(0)
    for j in range(x.size):
        scaled = g[j] * weight[j]
        total += scaled
        dot += scaled * (x[j] - mean)
    return total / F(x.size), dot * r * r / F(x.size)


@inner
def _layer_grad_lane(g, x, weight, mean, rstd, dx, add, dweight, dbias, past):
    width = x.shape[1]
    dweight[:] = F(0)
    dbias[:] = F(0)
    for i in range(x.shape[0]):
        gi, xi, di, m, r = g[i], x[i], dx[i], mean[i], rstd[i]
        total, dot = _layer_sums(gi, xi, weight, m, r)
        if past:
            _layer_grad_past(
                gi.ctypes.data, xi.ctypes.data, weight.ctypes.data, di.ctypes.data,
                dweight.ctypes.data, dbias.ctypes.data, width // WIDTH, m, r, total, dot,
            )  # fmt: skip
        elif add:
            for j in range(width):
                centred = xi[j] - m
                dweight[j] += gi[j] * centred * r
                dbias[j] += gi[j]
                di[j] += (gi[j] * weight[j] - total - centred * dot) * r
        else:
            for j in range(width):
                centred = xi[j] - m
                dweight[j] += gi[j] * centred * r
                dbias[j] += gi[j]
                di[j] = (gi[j] * weight[j] - total - centred * dot) * r


@inner
def _rms_rows(first, last, x, weight, y, rstd, eps, past):
    if past:
        for i in range(first, last):
            rstd[i] = _inverse_rms(x[i], eps)
            xi, yi = x[i].ctypes.data, y[i].ctypes.data
            _rms_past(xi, weight.ctypes.data, yi, x.shape[1] // WIDTH, rstd[i])
    else:
        for i in range(first, last):
            rstd[i] = _rms_row(x[i], weight, y[i], eps)


@inner
def _rms_grad_lanes(first, last, g, x, weight, rstd, dx, add, partial, past):
    step = (x.shape[0] + partial.shape[0] - 1) // partial.shape[0]
    for lane in range(first, last):
        at = slice(lane * step, lane * step + step)
        _rms_grad_lane(g[at], x[at], weight, rstd[at], dx[at], add, partial[lane], past)


@inner
def _layer_rows(first, last, x, weight, bias, y, mean, rstd, eps, past):
    if past:
        for i in range(first, last):
            mean[i], rstd[i] = _moments(x[i], eps)
            _layer_past(
                x[i].ctypes.data, weight.ctypes.data, bias.ctypes.data, y[i].ctypes.data,
                x.shape[1] // WIDTH, mean[i], rstd[i],
            )  # fmt: skip
    else:
        for i in range(first, last):
            mean[i], rstd[i] = _layer_row(x[i], weight, bias, y[i], eps)


@inner
def _layer_grad_lanes(first, last, g, x, weight, mean, rstd, dx, add, dweight, dbias, past):
    step = (x.shape[0] + dweight.shape[0] - 1) // dweight.shape[0]
    for lane in range(first, last):
        at = slice(lane * step, lane * step + step)
        _layer_grad_lane(
            g[at], x[at], weight, mean[at], rstd[at], dx[at], add, dweight[lane], dbias[lane], past
        )


@jit
def _rms(x, weight, y, rstd, eps, past):
    share_out(_rms_rows, x.shape[0], x.size, (x, weight, y, rstd, eps, past))


@jit
def _rms_grad(g, x, weight, rstd, dx, add, partial, past):
    told = (g, x, weight, rstd, dx, add, partial, past)
    share_out(_rms_grad_lanes, partial.shape[0], x.size, told)


@jit
def _layer(x, weight, bias, y, mean, rstd, eps, past):
    share_out(_layer_rows, x.shape[0], x.size, (x, weight, bias, y, mean, rstd, eps, past))


@jit
def _layer_grad(g, x, weight, mean, rstd, dx, add, dweight, dbias, past):
    told = (g, x, weight, mean, rstd, dx, add, dweight, dbias, past)
    share_out(_layer_grad_lanes, dweight.shape[0], x.size, told)


def _partial(x):
    """Partial sums of the rows' parts of dweight: few where there are few rows to share out."""
    return np.empty((min(LANES, max(1, len(x) // 4)), x.shape[1]), np.float32)


@override("norm.rms_norm", "float32")
def rms_norm(x, weight, *, eps):
    y, past = result(x.shape)
    rstd = np.empty(len(x), np.float32)
    _rms(np.ascontiguousarray(x), np.ascontiguousarray(weight), y, rstd, F(eps), past)
    return y, rstd


@override("norm.rms_norm_grad", "float32")
def rms_norm_grad(g, x, weight, rstd, *, out=None, add=False):
    partial = _partial(x)
    g, x, weight = (np.ascontiguousarray(array) for array in (g, x, weight))
    out, past = result(x.shape) if out is None else (out, False)
    _rms_grad(g, x, weight, rstd, out, add, partial, past)
    return out, partial.sum(axis=0)


@override("norm.layer_norm", "float32")
def layer_norm(x, weight, bias, *, eps):
    y, past = result(x.shape)
    mean, rstd = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    weight = np.ones(x.shape[1], np.float32) if weight is None else weight
    bias = np.zeros(x.shape[1], np.float32) if bias is None else bias
    x, weight, bias = (np.ascontiguousarray(array) for array in (x, weight, bias))
    _layer(x, weight, bias, y, mean, rstd, F(eps), past)
    return y, mean, rstd


@override("norm.layer_norm_grad", "float32")
def layer_norm_grad(g, x, weight, mean, rstd, *, out=None, add=False):
    if x.shape[1] == 1:  # dx is 0, of which fused products would leave a rounding
        return KERNELS["norm.layer_norm_grad"].reference(g, x, weight, mean, rstd, out=out, add=add)
    weight = np.ones(x.shape[1], np.float32) if weight is None else weight
    dweight, dbias = _partial(x), _partial(x)
    g, x, weight = (np.ascontiguousarray(array) for array in (g, x, weight))
    out, past = result(x.shape) if out is None else (out, False)
    _layer_grad(g, x, weight, mean, rstd, out, add, dweight, dbias, past)
    return out, dweight.sum(axis=0), dbias.sum(axis=0)
