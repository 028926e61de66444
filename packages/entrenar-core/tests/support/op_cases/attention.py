"""`ops.attention`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, normal

ANGLES = normal(5, 3)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def _rope(x):
    return ops.rope(x, COS, SIN)


def _torch_rope(t, x):
    cos, sin = (t.tensor(table, dtype=x.dtype)[:, None, :] for table in (COS, SIN))
    first, second = x.chunk(2, -1)
    return t.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention(**options):
    return lambda *inputs: ops.attention(*inputs, scale=0.7, **options)


def torch_attention(*, causal=True, window=None, mask=None):
    def call(t, q, k, v, bias=None):
        shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        positions = t.arange(shape[2])[:, None] + shape[3] - shape[2]
        keys = t.arange(shape[3])[None, :]
        seen = t.ones(shape, dtype=t.bool)
        if causal:
            seen &= keys <= positions
        if window is not None:
            seen &= keys > positions - window
        if mask is not None:
            seen &= t.tensor(mask)[:, None, None, :]
        add = t.zeros(shape, dtype=q.dtype) if bias is None else bias.expand(shape)
        add = add.masked_fill(~seen, -t.inf)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        o = t.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=add, scale=0.7, enable_gqa=True
        )
        return o.transpose(1, 2)

    return call


MASK = np.array([[True, True, False, True, True], [False, True, True, True, False]])

CASES = [
    case("rope", _rope, normal(2, 5, 3, 6), torch=_torch_rope),
    case(
        "attention",
        attention(),
        *(normal(2, 5, 3, 4) for _ in range(3)),
        torch=torch_attention(),
    ),
    case(
        "attention",
        attention(),
        normal(2, 5, 6, 4),
        normal(2, 5, 2, 4),
        normal(2, 5, 2, 4),
        torch=torch_attention(),
    ),
    case(
        "attention",
        attention(),
        normal(1, 3, 4, 2),
        normal(1, 7, 1, 2),
        normal(1, 7, 1, 2),
        torch=torch_attention(),
    ),
    case(
        "attention",
        attention(causal=False, mask=MASK),
        *(normal(2, 5, 3, 4) for _ in range(3)),
        torch=torch_attention(causal=False, mask=MASK),
    ),
    case(
        "attention",
        attention(window=2),
        *(normal(2, 5, 3, 4) for _ in range(3)),
        normal(1, 3, 1, 5),
        torch=torch_attention(window=2),
    ),
]
