"""`ops.rope`, `ops.attention` and `ops.attention_weights`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, normal

SCALE = 0.7


def _angles(*shape):
    angles = normal(*shape)
    return np.cos(angles), np.sin(angles)


def _rope(tables):
    """Cases of the op and of what PyTorch code writes for it: x·cos + rotated(x)·sin."""

    def theirs(t, x):
        cos, sin = (t.tensor(np.concatenate([table, table], -1)) for table in tables)
        cos, sin = (table.to(x.dtype).unsqueeze(-2) for table in (cos, sin))
        first, second = x.chunk(2, -1)
        return x * cos + t.cat([-second, first], -1) * sin

    return {"call": lambda x: ops.rope(x, *tables), "torch": theirs}


def _torch_weights(t, q, k, bias, causal=True, window=None, mask=None, first=None):
    """The weights by hand: 0 in the row of a query that sees no key, where softmax gives NaN."""
    groups = k.shape[2]
    k = k.repeat_interleave(q.shape[2] // groups, dim=2)
    scores = t.einsum("bthd,bshd->bhts", q, k) * SCALE
    scores = scores if bias is None else scores + bias
    time, keys = scores.shape[2:]
    positions, at = t.arange(time)[:, None] + keys - time, t.arange(keys)[None, :]
    seen = t.ones(scores.shape, dtype=t.bool)
    if causal:
        seen &= at <= positions
    if window is not None:
        seen &= at > positions - window
    if first is not None:
        seen &= at >= t.tensor(first)[:, None, :, None]
    if mask is not None:
        seen &= t.tensor(mask)[:, None, None, :]
    empty = ~seen.any(-1, keepdim=True)
    scores = scores.masked_fill(~seen, -t.inf).masked_fill(empty, 0.0)
    return scores.softmax(-1) * seen


def _torch_attention(t, q, k, v, bias=None, **options):
    weights = _torch_weights(t, q, k, bias, **options)
    v = v.repeat_interleave(q.shape[2] // v.shape[2], dim=2)
    return t.einsum("bhts,bshd->bthd", weights, v)


def _attention(*shapes, bias=None, **options):
    inputs = [normal(*shape) for shape in shapes] + ([] if bias is None else [normal(*bias)])
    return case(
        "attention",
        lambda *given: ops.attention(*given, scale=SCALE, **options),
        *inputs,
        torch=lambda t, *given: _torch_attention(t, *given, **options),
    )


def _weights(q, k, bias=None, **options):
    return case(
        "attention_weights",
        lambda *given: ops.attention_weights(*given, scale=SCALE, **options),
        *(normal(*shape) for shape in (q, k, bias) if shape is not None),
        torch=lambda t, q, k, bias=None: _torch_weights(t, q, k, bias, **options),
    )


def _fused(t, q, k, v):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    function = t.nn.functional.scaled_dot_product_attention
    return function(q, k, v, is_causal=True, scale=SCALE).transpose(1, 2)


def _dropped(*given):
    return ops.attention(*given, scale=SCALE, dropout=0.4, key=2**63 + 11)


DROPPED = "torch draws other numbers; test_attention.py has the counters and the expectation"

MASK = np.array([[True, True, False, True, True], [False, True, True, True, False]])
LEFT = np.array([[False, False, False, True, True], [False, False, False, False, False]])
"""The first rows of a causal sequence see nothing; the second sequence has no key at all."""

FIRST = np.array([[0, 0, 2, 2, 4], [0, 1, 1, 1, 4]])
"""Where the documents of two rows begin."""

EQUAL = ((2, 5, 3, 4),) * 3
GROUPED = (2, 5, 6, 4), (2, 5, 2, 4), (2, 5, 2, 4)
CACHED = (1, 3, 4, 2), (1, 7, 1, 2), (1, 7, 1, 2)
"""More keys than queries, all queries on one head of keys."""

ROPE = [
    (_rope(_angles(5, 3)), (2, 5, 3, 6)),
    (_rope(_angles(2, 5, 3)), (2, 5, 3, 6)),
    (_rope(_angles(1, 1)), (1, 1, 1, 2)),
    (_rope(_angles(4, 2)), (0, 4, 2, 4)),
    (_rope(_angles(0, 4, 2)), (0, 4, 2, 4)),
]

CASES = [
    *(case("rope", pair["call"], normal(*shape), torch=pair["torch"]) for pair, shape in ROPE),
    case(
        "attention",
        lambda *given: ops.attention(*given, scale=SCALE),
        *(normal(*shape) for shape in EQUAL),
        torch=_fused,
    ),
    _attention(*GROUPED),
    _attention(*CACHED),
    _attention((1, 1, 2, 4), (1, 1, 1, 4), (1, 1, 1, 4)),
    _attention((2, 1, 2, 4), (2, 5, 1, 4), (2, 5, 1, 4), mask=MASK),
    _attention((0, 3, 2, 4), (0, 5, 1, 4), (0, 5, 1, 4)),
    _attention((0, 3, 2, 4), (0, 5, 1, 4), (0, 5, 1, 4), bias=(2, 3, 5), mask=MASK[:0]),
    _attention((2, 0, 2, 4), (2, 3, 1, 4), (2, 3, 1, 4), causal=False),
    _attention(*EQUAL, causal=False, mask=MASK),
    _attention(*EQUAL, mask=LEFT),
    _attention(*EQUAL, mask=LEFT, causal=False, bias=(2, 3, 5, 5)),
    _attention(*GROUPED, window=2),
    _attention(*GROUPED, window=1),
    _attention(*GROUPED, window=2, causal=False),
    _attention(*GROUPED, window=100),
    _attention(*GROUPED, mask=MASK),
    _attention(*GROUPED, mask=MASK, window=3),
    _attention(*CACHED, window=3),
    _attention(*EQUAL, first=FIRST),
    _attention(*GROUPED, first=FIRST, mask=MASK, window=2),
    _attention(*GROUPED, first=FIRST, causal=False, bias=(2, 1, 5, 5)),
    _attention(*CACHED, first=np.array([[3, 5, 6]])),
    # a query that sees nothing, and bounds that bound nothing
    _attention(*GROUPED, first=np.array([[-3, 2, 0, 9, 4], [0, 0, 0, 0, 0]])),
    _attention(*CACHED, bias=(4, 1, 7)),
    *(
        _attention(*GROUPED, bias=shape)
        for shape in (
            (2, 6, 5, 5), (1, 6, 5, 5), (2, 1, 5, 5), (2, 6, 1, 5), (6, 5, 5), (5, 5), (5,),
            (1, 6, 1, 5),
        )
    ),
    _attention(*GROUPED, bias=(1, 6, 5, 5), mask=MASK, window=3, causal=False),
    case("attention", _dropped, *(normal(*shape) for shape in GROUPED), oracle=DROPPED),
    case(
        "attention", _dropped, *(normal(*shape) for shape in GROUPED), normal(6, 5, 5),
        oracle=DROPPED,
    ),
    _weights((2, 5, 3, 4), (2, 5, 3, 4)),
    _weights((2, 5, 6, 4), (2, 5, 2, 4), window=2),
    _weights((2, 5, 6, 4), (2, 5, 2, 4), window=2, first=FIRST),
    _weights((1, 3, 4, 2), (1, 7, 1, 2), (4, 1, 7)),
    _weights((2, 5, 6, 4), (2, 5, 2, 4), (5,), mask=LEFT, causal=False),
    _weights((0, 3, 2, 4), (0, 5, 1, 4)),
    _weights((1, 1, 1, 2), (1, 1, 1, 2)),
]  # fmt: skip
