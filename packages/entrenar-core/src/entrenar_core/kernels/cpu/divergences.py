"""The table of `kernels.divergences` for one row, in loops that vectorize.

A function `_of(d, p, q, w)` gives one term of the divergence and its c. Which function is taken is
decided for a whole row, and each loop is compiled for its own.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner
from entrenar_core.kernels.cpu.elementary import exp
from entrenar_core.kernels.divergences import DIVERGENCES

CODES = {name: code for code, name in enumerate(DIVERGENCES)}
"""What `row_divergence` calls them."""

_FORWARD, _REVERSE, _JSD, _SYMMETRIC, _SKEWED_FORWARD, _SKEWED_REVERSE, _TVD, _MSE = CODES.values()

IMPOSSIBLE = F(-1e20)
"""Instead of a log of −∞: times the least that `exp` gives it is 0."""


@inner
def log1p(x):
    """log(1 + x) for x > −1, relative error below 3e-7.

    1 + x = m·2ᵏ with √½ ≤ m < √2, a polynomial of degree 9 in m − 1 (that of Cephes' logf). Where
    k is 0, m − 1 is x, without the rounding of 1 + x.
    """
    bits = np.float32(F(1.0) + x).view(np.int32)
    k = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    m = np.int32(bits - np.int32(k << np.int32(23))).view(np.float32)
    f = x if k == np.int32(0) else m - F(1.0)
    p = F(7.0376836292e-2)
    p = p * f + F(-1.1514610310e-1)
    p = p * f + F(1.1676998740e-1)
    p = p * f + F(-1.2420140846e-1)
    p = p * f + F(1.4249322787e-1)
    p = p * f + F(-1.6668057665e-1)
    p = p * f + F(2.0000714765e-1)
    p = p * f + F(-2.4999993993e-1)
    p = p * f + F(3.3333331174e-1)
    return F(k) * F(0.69314718056) + (p * f * f * f - F(0.5) * f * f + f)


@inner
def _log_mean(w, a, b):
    """log((1 − w)·a + w·b) − log a. What is lost of it where b is more than 10¹³ times a, or a is
    below 10⁻³⁰, is nothing once it is multiplied by a."""
    rise = w * (b - a) / max(a, F(1e-30))
    return log1p(F(1e13) if rise > F(1e13) else rise)


@inner
def _forward_kl(d, p, q, _w):
    return p * (IMPOSSIBLE if d < IMPOSSIBLE else d), q - p


@inner
def _reverse_kl(d, _p, q, _w):
    return -q * d, -q * d


@inner
def _symmetric(d, p, q, w):
    ahead, back = p * (IMPOSSIBLE if d < IMPOSSIBLE else d), -q * d
    term, c = w * ahead + (F(1) - w) * back, w * (q - p) + (F(1) - w) * back
    # whatever order LLVM gives these sums: parts of them may be infinite with other signs
    return (F(np.inf), F(np.inf)) if back == F(np.inf) else (term, c)


@inner
def _jsd(_d, p, q, w):
    pulled = -q * _log_mean(w, q, p) / w
    return pulled - p * _log_mean(F(1) - w, p, q) / (F(1) - w), pulled


@inner
def _skewed_forward_kl(_d, p, q, w):
    m = max(w * p + (F(1) - w) * q, F(1e-30))
    return -p * _log_mean(F(1) - w, p, q), (F(1) - w) * (F(1) - w) * q * ((q - p) / m)


@inner
def _skewed_reverse_kl(_d, p, q, w):
    m = max((F(1) - w) * p + w * q, F(1e-30))
    term = -q * _log_mean(F(1) - w, q, p)
    return term, term + w * (F(1) - w) * q * ((p - q) / m)


@inner
def _total_variation(_d, p, q, _w):
    sign = F(q > p) - F(q < p)
    return F(0.5) * abs(p - q), F(0.5) * q * sign


@inner
def _squared_error(d, _p, _q, _w):
    return d * d, d  # of a centred d


def _summed(of: Callable[..., Any]) -> Any:
    """Σ terms and Σ c of a row; c is written to y."""

    @inner
    def sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w):
        total, pulled = F(0), F(0)
        for j in range(x.size):
            p, q = exp((y[j] - peak_p) * inverse) * one_p, exp((x[j] - peak_q) * inverse) * one_q
            term, c = of((y[j] - x[j]) * inverse - shift, p, q, w)
            y[j] = c
            total += term
            pulled += c
        return total, pulled

    return sums


_forward_sums = _summed(_forward_kl)
_reverse_sums = _summed(_reverse_kl)
_jsd_sums = _summed(_jsd)
_symmetric_sums = _summed(_symmetric)
_skewed_forward_sums = _summed(_skewed_forward_kl)
_skewed_reverse_sums = _summed(_skewed_reverse_kl)
_total_variation_sums = _summed(_total_variation)
_squares_sums = _summed(_squared_error)


@inner
def _mean(x, y, inverse, shift):
    total = F(0)
    for j in range(x.size):
        total += (y[j] - x[j]) * inverse - shift
    return total / F(x.size)


@inner
def row_divergence(code, x, y, peak_q, peak_p, inverse, total_q, total_p, w):
    """The divergence between p = exp((y − peak_p)·inverse)/total_p and q likewise of x, and Σc; y
    is overwritten by c.

    Equal x and y give exactly 0: log p − log q starts from y − x, whatever else is reordered.
    """
    one_q, one_p = F(1) / total_q, F(1) / total_p
    shift = (peak_p - peak_q) * inverse + (np.log(total_p) - np.log(total_q))
    if np.isnan(shift):  # the loops choose between numbers, where a NaN would get lost
        return F(np.nan), F(np.nan)
    if code == _FORWARD:
        return _forward_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _REVERSE:
        return _reverse_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _JSD:
        return _jsd_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _SYMMETRIC:
        return _symmetric_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _SKEWED_FORWARD:
        return _skewed_forward_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _SKEWED_REVERSE:
        return _skewed_reverse_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    if code == _TVD:
        return _total_variation_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    shift += _mean(x, y, inverse, shift)
    squares, _ = _squares_sums(x, y, peak_q, peak_p, inverse, one_q, one_p, shift, w)
    for j in range(y.size):
        y[j] *= F(-2) / F(y.size)
    return squares / F(y.size), F(0)
