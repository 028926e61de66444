"""`kernels.norm` in one pass over the rows each way."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.past_caches import aligned, read_ahead, store_past, streams
from entrenar_core.kernels.cpu.threads import LANES, share_out
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    I64,
    INTEGER,
    NUMBER,
    WIDTH,
    each_vector,
    load,
    plus,
    routine,
    spread,
    store,
    times,
)
from entrenar_core.kernels.registry import KERNELS, override


@inner
def _rms_row(x, weight, y, eps):
    total = F(0)
    for j in range(x.size):
        total += x[j] * x[j]
    r = F(1) / np.sqrt(total / F(x.size) + eps)
    for j in range(x.size):
        y[j] = x[j] * r * weight[j]
    return r


@inner
def _rms_grad_lane(g, x, weight, rstd, dx, add, dweight):
    width = x.shape[1]
    dweight[:] = F(0)
    for i in range(x.shape[0]):
        gi, xi, di, r = g[i], x[i], dx[i], rstd[i]
        dot = F(0)
        for j in range(width):
            dot += gi[j] * weight[j] * xi[j]
        dot = dot * r * r * r / F(width)
        if add:
            for j in range(width):
                dweight[j] += gi[j] * xi[j] * r
                di[j] += gi[j] * weight[j] * r - xi[j] * dot
        else:
            for j in range(width):
                dweight[j] += gi[j] * xi[j] * r
                di[j] = gi[j] * weight[j] * r - xi[j] * dot


@routine(*(INTEGER,) * 5, NUMBER, NUMBER)
def _layer_past(builder, x, weight, bias, y, vectors, mean, r):
    """(x − mean) · r · weight + bias, written past the caches."""
    shift, scale = builder.fneg(spread(builder, mean)), spread(builder, r)
    following = builder.mul(vectors, I64(BYTES))
    with each_vector(builder, vectors) as offset:
        xi, wi, bi = (load(builder, builder.add(at, offset)) for at in (x, weight, bias))
        read_ahead(builder, builder.add(builder.add(x, following), offset))
        value = times(builder, times(builder, plus(builder, xi, shift), scale), wi)
        store_past(builder, plus(builder, value, bi), builder.add(y, offset))


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


@routine(*(INTEGER,) * 7, *(NUMBER,) * 4)
def _layer_grad_past(builder, g, x, weight, dx, dweight, dbias, vectors, mean, r, total, dot):
    """((g · weight − total) − (x − mean) · dot) · r, written past the caches; what a row adds to
    the gradients of weight and bias is added to these."""
    shift, less, slope = (builder.fneg(spread(builder, number)) for number in (mean, total, dot))
    scale, following = spread(builder, r), builder.mul(vectors, I64(BYTES))
    with each_vector(builder, vectors) as offset:
        at_x, at_g, at_weight = (builder.add(at, offset) for at in (x, g, weight))
        gi, centred = load(builder, at_g), plus(builder, load(builder, at_x), shift)
        for at in (at_x, at_g):
            read_ahead(builder, builder.add(at, following))
        for at, value in (
            (dweight, times(builder, times(builder, gi, centred), scale)),
            (dbias, gi),
        ):
            to = builder.add(at, offset)
            store(builder, plus(builder, load(builder, to), value), to)
        value = plus(builder, times(builder, gi, load(builder, at_weight)), less)
        value = plus(builder, times(builder, centred, slope), value)
        store_past(builder, times(builder, value, scale), builder.add(dx, offset))


@inner
def _layer_grad_lane_past_caches(g, x, weight, mean, rstd, dx, dweight, dbias):
    dweight[:] = F(0)
    dbias[:] = F(0)
    for i in range(x.shape[0]):
        total, dot = _layer_sums(g[i], x[i], weight, mean[i], rstd[i])
        _layer_grad_past(
            g[i].ctypes.data, x[i].ctypes.data, weight.ctypes.data, dx[i].ctypes.data,
            dweight.ctypes.data, dbias.ctypes.data, x.shape[1] // WIDTH, mean[i], rstd[i],
            total, dot,
        )  # fmt: skip


@inner
def _layer_grad_lane(g, x, weight, mean, rstd, dx, add, dweight, dbias):
    width = x.shape[1]
    dweight[:] = F(0)
    dbias[:] = F(0)
    for i in range(x.shape[0]):
        gi, xi, di, m, r = g[i], x[i], dx[i], mean[i], rstd[i]
        total, dot = _layer_sums(gi, xi, weight, m, r)
        if add:
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
def _rms_rows(first, last, x, weight, y, rstd, eps):
    for i in range(first, last):
        rstd[i] = _rms_row(x[i], weight, y[i], eps)


@inner
def _rms_grad_lanes(first, last, g, x, weight, rstd, dx, add, partial):
    step = (x.shape[0] + partial.shape[0] - 1) // partial.shape[0]
    for lane in range(first, last):
        at = slice(lane * step, lane * step + step)
        _rms_grad_lane(g[at], x[at], weight, rstd[at], dx[at], add, partial[lane])


@inner
def _layer_rows(first, last, x, weight, bias, y, mean, rstd, eps):
    for i in range(first, last):
        mean[i], rstd[i] = _layer_row(x[i], weight, bias, y[i], eps)


@inner
def _layer_rows_past_caches(first, last, x, weight, bias, y, mean, rstd, eps):
    for i in range(first, last):
        mean[i], rstd[i] = _moments(x[i], eps)
        _layer_past(
            x[i].ctypes.data, weight.ctypes.data, bias.ctypes.data, y[i].ctypes.data,
            x.shape[1] // WIDTH, mean[i], rstd[i],
        )  # fmt: skip


@inner
def _layer_grad_lanes(first, last, g, x, weight, mean, rstd, dx, add, dweight, dbias):
    step = (x.shape[0] + dweight.shape[0] - 1) // dweight.shape[0]
    for lane in range(first, last):
        at = slice(lane * step, lane * step + step)
        _layer_grad_lane(
            g[at], x[at], weight, mean[at], rstd[at], dx[at], add, dweight[lane], dbias[lane]
        )


@inner
def _layer_grad_lanes_past_caches(first, last, g, x, weight, mean, rstd, dx, dweight, dbias):
    step = (x.shape[0] + dweight.shape[0] - 1) // dweight.shape[0]
    for lane in range(first, last):
        at = slice(lane * step, lane * step + step)
        _layer_grad_lane_past_caches(
            g[at], x[at], weight, mean[at], rstd[at], dx[at], dweight[lane], dbias[lane]
        )


@jit
def _rms(x, weight, y, rstd, eps):
    share_out(_rms_rows, x.shape[0], x.size, (x, weight, y, rstd, eps))


@jit
def _rms_grad(g, x, weight, rstd, dx, add, partial):
    told = (g, x, weight, rstd, dx, add, partial)
    share_out(_rms_grad_lanes, partial.shape[0], x.size, told)


@jit
def _layer(x, weight, bias, y, mean, rstd, eps):
    share_out(_layer_rows, x.shape[0], x.size, (x, weight, bias, y, mean, rstd, eps))


@jit
def _layer_past_caches(x, weight, bias, y, mean, rstd, eps):
    told = (x, weight, bias, y, mean, rstd, eps)
    share_out(_layer_rows_past_caches, x.shape[0], x.size, told)


@jit
def _layer_grad(g, x, weight, mean, rstd, dx, add, dweight, dbias):
    told = (g, x, weight, mean, rstd, dx, add, dweight, dbias)
    share_out(_layer_grad_lanes, dweight.shape[0], x.size, told)


@jit
def _layer_grad_past_caches(g, x, weight, mean, rstd, dx, dweight, dbias):
    told = (g, x, weight, mean, rstd, dx, dweight, dbias)
    share_out(_layer_grad_lanes_past_caches, dweight.shape[0], x.size, told)


def _partial(x):
    """Partial sums of the rows' parts of dweight: few where there are few rows to share out."""
    return np.empty((min(LANES, max(1, len(x) // 4)), x.shape[1]), np.float32)


@override("norm.rms_norm", "float32")
def rms_norm(x, weight, *, eps):
    y = np.empty(x.shape, np.float32)
    rstd = np.empty(len(x), np.float32)
    _rms(np.ascontiguousarray(x), weight, y, rstd, F(eps))
    return y, rstd


@override("norm.rms_norm_grad", "float32")
def rms_norm_grad(g, x, weight, rstd, *, out=None, add=False):
    out = np.empty(x.shape, np.float32) if out is None else out
    partial = _partial(x)
    g, x = np.ascontiguousarray(g), np.ascontiguousarray(x)
    _rms_grad(g, x, weight, rstd, out, add, partial)
    return out, partial.sum(axis=0)


@override("norm.layer_norm", "float32")
def layer_norm(x, weight, bias, *, eps):
    x = np.ascontiguousarray(x)
    mean, rstd = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    weight = np.ones(x.shape[1], np.float32) if weight is None else weight
    bias = np.zeros(x.shape[1], np.float32) if bias is None else bias
    if streams(x.shape):
        y = aligned(x.shape)
        _layer_past_caches(x, weight, bias, y, mean, rstd, F(eps))
    else:
        y = np.empty(x.shape, np.float32)
        _layer(x, weight, bias, y, mean, rstd, F(eps))
    return y, mean, rstd


@override("norm.layer_norm_grad", "float32")
def layer_norm_grad(g, x, weight, mean, rstd, *, out=None, add=False):
    if x.shape[1] == 1:  # dx is 0, of which fused products would leave a rounding
        return KERNELS["norm.layer_norm_grad"].reference(g, x, weight, mean, rstd, out=out, add=add)
    weight = np.ones(x.shape[1], np.float32) if weight is None else weight
    dweight, dbias = _partial(x), _partial(x)
    g, x = np.ascontiguousarray(g), np.ascontiguousarray(x)
    if out is None and streams(x.shape):
        out = aligned(x.shape)
        _layer_grad_past_caches(g, x, weight, mean, rstd, out, dweight, dbias)
    else:
        out = np.empty(x.shape, np.float32) if out is None else out
        _layer_grad(g, x, weight, mean, rstd, out, add, dweight, dbias)
    return out, dweight.sum(axis=0), dbias.sum(axis=0)
