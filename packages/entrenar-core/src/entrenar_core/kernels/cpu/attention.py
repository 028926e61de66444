"""`kernels.attention` in tiles: of the scores, only those of 64 queries with 64 keys exist at once.

The work is cut by sizes alone and each number has one owner, so nothing depends on the number of
threads. Threads take the next piece of work when they have done one.
"""

import numpy as np

from entrenar_core.kernels.cpu.attention_backward import backward
from entrenar_core.kernels.cpu.attention_backward import scratch_size as backward_scratch_size
from entrenar_core.kernels.cpu.attention_few import FEW, forward_few, joined
from entrenar_core.kernels.cpu.attention_few import scratch_size as few_scratch_size
from entrenar_core.kernels.cpu.attention_forward import forward
from entrenar_core.kernels.cpu.attention_forward import scratch_size as forward_scratch_size
from entrenar_core.kernels.cpu.attention_plan import (
    PIECES,
    Plan,
    backward_in_tiles,
    forward_in_tiles,
    narrowed,
    whole_vectors,
)
from entrenar_core.kernels.cpu.attention_tiles import CUTS, LSE, K, O, Q, V
from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.past_caches import result
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vector_loops import rotate
from entrenar_core.kernels.cpu.vectors import WIDTH
from entrenar_core.kernels.registry import override

PART = 512
"""Keys at least in a part when queries are few."""


@inner
def _rope_rows(first, last, x, cos, sin, y, sign, past):
    heads, half = x.shape[1], x.shape[2] // 2
    for row in range(first, last):
        c, s = cos[row % cos.shape[0]], sin[row % sin.shape[0]]
        if past:
            xi, yi = x[row].ctypes.data, y[row].ctypes.data
            rotate(xi, yi, heads, half // WIDTH, c.ctypes.data, s.ctypes.data, sign)
            continue
        for h in range(heads):
            source, target = x[row, h], y[row, h]
            first_half, second_half = source[:half], source[half:]
            to_first, to_second = target[:half], target[half:]
            for j in range(half):
                turned = sign * s[j]
                to_first[j] = first_half[j] * c[j] - second_half[j] * turned
                to_second[j] = second_half[j] * c[j] + first_half[j] * turned


@jit
def _rope(x, cos, sin, y, sign, past):
    share_out(_rope_rows, x.shape[0], x.size, (x, cos, sin, y, sign, past))


@override("attention.rope", "float32")
def rope(x, cos, sin, *, inverse=False):
    batch, time, heads, width = x.shape
    y, past = result(x.shape)
    if y.size:
        # tables (T, D/2) are the same for each sequence
        tables = (np.ascontiguousarray(table).reshape(-1, width // 2) for table in (cos, sin))
        rows = np.ascontiguousarray(x).reshape(batch * time, heads, width)
        past = past and width % (2 * WIDTH) == 0
        _rope(rows, *tables, y.reshape(rows.shape), F(-1 if inverse else 1), past)
    return y


@override("attention.attention", "float32")
def attention(
    q, k, v, *, scale, causal=True, window=None, mask=None, first=None, bias=None, dropout=0.0,
    key=0,
):  # fmt: skip
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "first": first,
        "dropout": dropout, "key": key,
    }  # fmt: skip
    if q.shape[1] <= FEW and bias is None and first is None and not dropout:
        return _few(q, k, v, options)
    return forward_in_tiles(forward, forward_scratch_size, q, k, v, bias, options)


def _few(q, k, v, options):
    narrow = q.shape[3]
    q, k, v = whole_vectors(q, k, v)
    plan = Plan(q, k, **options)
    batch, time, heads, width = q.shape
    keys, groups = k.shape[1:3]
    parts = max(1, min(-(-PIECES // max(1, batch * groups)), keys // PART))
    step = -(-keys // parts)
    parts = max(1, -(-keys // max(1, step)))
    o = np.empty((parts, *q.shape), np.float32)
    lse = np.empty((parts, batch, heads, time), np.float32)
    # part p of sequence b is where sequence p·B + b would be
    plan.arrays({Q: q, K: k, V: v, O: o[0], LSE: lse[0]})
    plan.write(CUTS, parts, step)
    plan.run(forward_few, few_scratch_size(heads // groups * time, width))
    o, lse = (o[0], lse[0]) if parts == 1 else joined(o, lse)
    return narrowed(o, narrow), lse


@override("attention.attention_grad", "float32")
def attention_grad(
    g, q, k, v, o, lse, *, scale, causal=True, window=None, mask=None, first=None, bias=None,
    dropout=0.0, key=0, needs_bias=False,
):  # fmt: skip
    options = {
        "scale": scale, "causal": causal, "window": window, "mask": mask, "first": first,
        "dropout": dropout, "key": key,
    }  # fmt: skip
    given = g, q, k, v, o, lse, bias, needs_bias
    return backward_in_tiles(backward, backward_scratch_size, given, options)
