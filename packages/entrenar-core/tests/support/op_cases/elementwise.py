"""`ops.elementwise`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import away_from_zero, case, distinct, normal, positive

PAIRS = [  # equal, broadcast on either side and on both, of one element, of none
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((2, 1, 4), (3, 1)),
    ((), (2, 3)),
    ((1, 1), (1,)),
    ((0, 3), (1, 3)),
    ((2, 0), (2, 1)),
]
SHAPES = [(2, 3), (1,), (), (0, 4)]


def _drawn(*draws):
    """Arrays, also of no axes, where NumPy's arithmetic makes scalars."""
    return [np.asarray(draw(*shape)) for draw, shape in draws]


def _pairs(name, torch, first=normal, second=normal):
    function = getattr(ops, name)
    return [case(name, function, *_drawn((first, a), (second, b)), torch=torch) for a, b in PAIRS]


def _each(name, torch, draw=normal):
    return [case(name, getattr(ops, name), *_drawn((draw, shape)), torch=torch) for shape in SHAPES]


def _shifted(*shape):
    return distinct(*shape) + 0.03


def _apart(name, torch):
    """Pairs of which no two elements are within a step of a difference."""
    function = getattr(ops, name)
    drawn = (_drawn((distinct, a), (_shifted, b)) for a, b in PAIRS)
    return [case(name, function, x, y, torch=torch) for x, y in drawn]


def _clip(low, high, *bounds, shape=(4, 5)):
    def call(x, *given):
        return ops.clip(x, *(given or (low, high)))

    def torch(t, x, *given):
        return t.clamp(x, *(given or (low, high)))

    return case("clip", call, _shifted(*shape), *bounds, torch=torch)


def _where(first, second, mask):
    chosen = np.random.default_rng(0).random(mask) < 0.5
    return case(
        "where",
        lambda x, y: ops.where(chosen, x, y),
        normal(*first),
        normal(*second),
        torch=lambda t, x, y: t.where(t.tensor(chosen), x, y),
    )


def _to_a_number(exponent, draw=away_from_zero):
    return case("pow", lambda x: ops.pow(x, exponent), draw(3, 4), torch=lambda t, x: x**exponent)


CASES = [
    *_pairs("add", lambda t, x, y: x + y),
    *_pairs("sub", lambda t, x, y: x - y),
    *_pairs("mul", lambda t, x, y: x * y),
    *_pairs("div", lambda t, x, y: x / y, second=away_from_zero),
    *_pairs("pow", lambda t, x, y: x**y, first=positive),
    *(_to_a_number(exponent) for exponent in (0, 1, 2, 3, -1, -2, 2.0)),
    *(_to_a_number(exponent, positive) for exponent in (0.5, -0.5, 1.7)),
    case("pow", lambda x: ops.pow(2.5, x), normal(3, 4), torch=lambda t, x: 2.5**x),
    *_each("neg", lambda t, x: -x),
    *_each("exp", lambda t, x: t.exp(x)),
    *_each("log", lambda t, x: t.log(x), draw=positive),
    *_each("sqrt", lambda t, x: t.sqrt(x), draw=positive),
    *_each("abs", lambda t, x: t.abs(x), draw=away_from_zero),
    *_apart("maximum", lambda t, x, y: t.maximum(x, y)),
    *_apart("minimum", lambda t, x, y: t.minimum(x, y)),
    _clip(-0.5, 0.5),
    _clip(None, 0.25),
    _clip(-0.25, None),
    _clip(0.5, -0.5),
    _clip(None, None, distinct(4, 5) - 0.4, distinct(5) + 0.4),
    _clip(None, None, distinct(4, 1) * 4, distinct(1)),  # crossed in some places
    _clip(-1.0, 1.0, shape=(0, 2)),
    case(
        "clip",
        lambda x, low: ops.clip(x, min=low),
        *_drawn((_shifted, (4, 5)), (distinct, (5,))),
        torch=lambda t, x, low: t.clamp(x, min=low),
    ),
    case(
        "clip",
        lambda x, high: ops.clip(x, max=high),
        *_drawn((_shifted, (4, 5)), (distinct, (4, 1))),
        torch=lambda t, x, high: t.clamp(x, max=high),
    ),
    _where((3, 4), (3, 4), (3, 4)),
    _where((4,), (), (3, 4)),
    _where((2, 1, 4), (3, 1), (1,)),
    _where((0, 3), (3,), (1, 1)),
    case("astype", lambda x: ops.astype(x, x.dtype), normal(3), torch=lambda t, x: x * 1),
    case(
        "astype",
        lambda x: ops.astype(x * x, "float64") if x.dtype == "float64" else x * x,
        normal(2, 0),
        torch=lambda t, x: x * x,
    ),
]
