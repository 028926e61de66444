"""How far two distributions are apart: the table of what a distillation can minimise.

p is the teacher's distribution, q the student's, d = log p − log q, each (N, n) with a row for
each token. A function of the table gives the terms whose sum over a row is the divergence, and
c = q·∂/∂q of it: with q = softmax(z) the gradient is ∂/∂zᵢ = cᵢ − qᵢ·Σc, to which a multiple of q
in c adds nothing. So each c is written such that it is 0 where p = q. `w` is the weight of the
divergence, where it has one. Every divergence is 0 for p = q and greater than 0 elsewhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import nearest
from entrenar_core.kernels.registry import array_module

__all__ = ["DIVERGENCES", "Divergence", "Form"]

_STEEP = 30.0
"""From this d on e^d is taken out of a sum, so that it does not overflow."""


@dataclass(frozen=True)
class Form:
    """One divergence: `terms(d, p, q, w)` as above, what its weight is called (None without one),
    and whether its value is multiplied by T², so that gradients keep their size when T is raised.
    """

    terms: Callable[..., Any]
    formula: str
    weight: str | None = None
    squared_temperature: bool = True


def _times(p, x):
    """p·x, and 0 where p is 0: what has no probability has no part, whatever x is."""
    xp = array_module(p)
    return xp.where(p > 0, p * xp.where(p == 0, p, x), p)


def _log_mean(w, d):
    """log(1 − w + w·e^d), to full precision also where w or d is near 0; 0 < w ≤ 1."""
    xp = array_module(d)
    steep = d > _STEEP
    flat = xp.where(steep, xp.zeros_like(d), d)
    away = xp.where(steep, -d, xp.zeros_like(d))
    direct = xp.log1p(w * xp.expm1(flat))
    return xp.where(steep, d + xp.log(w + (1 - w) * xp.exp(away)), direct)


def _forward_kl(d, p, q, _w):
    return _times(p, d), q - p


def _reverse_kl(d, _p, q, _w):
    return -_times(q, d), -_times(q, d)


def _symmetric(d, p, q, w):
    ahead, back = _times(p, d), -_times(q, d)
    return w * ahead + (1 - w) * back, w * (q - p) + (1 - w) * back


def _jsd(d, p, q, w):
    # m = w·p + (1 − w)·q; log m − log q and log m − log p
    from_q, from_p = _log_mean(w, d), _log_mean(1 - w, -d)
    pulled = -_times(q, from_q) / w
    return pulled - _times(p, from_p) / (1 - w), pulled


def _skewed_forward_kl(d, p, q, w):
    from_p = _log_mean(1 - w, -d)  # log m − log p of m = w·p + (1 − w)·q
    return -_times(p, from_p), (w - 1) * q * array_module(d).expm1(-from_p)


def _skewed_reverse_kl(d, _p, q, w):
    from_q = _log_mean(1 - w, d)  # log m − log q of m = (1 − w)·p + w·q
    log_ratio = -_times(q, from_q)
    return log_ratio, log_ratio - w * q * array_module(d).expm1(-from_q)


def _total_variation(_d, p, q, _w):
    xp = array_module(p)
    return xp.abs(p - q) / 2, q * xp.sign(q - p) / 2


def _squared_error(d, _p, _q, _w):
    n = d.shape[-1]
    centred = d - d.mean(axis=-1, keepdims=True)
    return centred * centred / n, centred * (-2 / n)


DIVERGENCES: dict[str, Form] = {
    "forward_kl": Form(_forward_kl, "KL(teacher||student)"),
    "reverse_kl": Form(_reverse_kl, "KL(student||teacher)"),
    "jsd": Form(
        _jsd,
        "[beta*KL(teacher||m) + (1-beta)*KL(student||m)]/(beta*(1-beta)), "
        "m = beta*teacher + (1-beta)*student",
        "beta",
    ),
    "symmetric": Form(
        _symmetric, "[beta*KL(teacher||student) + (1-beta)*KL(student||teacher)]", "beta"
    ),
    "skewed_forward_kl": Form(
        _skewed_forward_kl, "KL(teacher||skew*teacher + (1-skew)*student)", "skew"
    ),
    "skewed_reverse_kl": Form(
        _skewed_reverse_kl, "KL(student||(1-skew)*teacher + skew*student)", "skew"
    ),
    "tvd": Form(_total_variation, "sum|teacher - student|/2"),
    "mse": Form(_squared_error, "var(log teacher - log student)", squared_temperature=False),
}
"""By the name in configurations; docs/distillation.md has the sources."""

_LIMITS = {
    ("jsd", 0.0): "forward_kl",
    ("jsd", 1.0): "reverse_kl",
    ("symmetric", 0.0): "reverse_kl",
    ("symmetric", 1.0): "forward_kl",
    ("skewed_forward_kl", 0.0): "forward_kl",
    ("skewed_reverse_kl", 0.0): "reverse_kl",
}
"""What a divergence is at the end of its weight's range."""

_UNSEEN = 1e-7
"""So close to an end float32 does not tell a weight from it."""


@dataclass(frozen=True)
class Divergence:
    """What a student is pulled by: a divergence of softmaxes at a temperature.

    `beta` is the weight of jsd (0 gives forward KL, 1 reverse KL) and of forward KL in symmetric;
    `skew`, below 1, is how much of the distribution on the left of the ‖ is mixed into the one on
    the right, in skewed_forward_kl and skewed_reverse_kl. With `top_k` the teacher's k most likely
    ids count by themselves, and all others are one outcome. Raises ConfigError for a name or a
    number that means nothing.
    """

    name: str = "forward_kl"
    temperature: float = 1.0
    beta: float = 0.5
    skew: float = 0.1
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.name not in DIVERGENCES:
            guess = nearest(self.name, DIVERGENCES)
            raise ConfigError(
                f"there is no divergence {self.name!r}",
                hint=f"did you mean {guess}?" if guess else f"take one of {', '.join(DIVERGENCES)}",
            )
        wrong = {
            "temperature": not 0 < self.temperature < math.inf,
            "beta": not 0 <= self.beta <= 1,
            "skew": not 0 <= self.skew < 1,
            "top_k": self.top_k is not None and self.top_k < 1,
        }
        for key in (key for key, refused in wrong.items() if refused):
            raise ConfigError(
                f"{self.name}: {key} {getattr(self, key)} is out of range",
                hint="temperature is above 0, beta from 0 to 1, skew from 0 to below 1, top_k at "
                "least 1",
            )

    @property
    def weight_name(self) -> str | None:
        """`beta` or `skew`, whichever the divergence has."""
        return DIVERGENCES[self.name].weight

    @property
    def weight(self) -> float:
        """The number of that name; 0 without one."""
        return 0.0 if self.weight_name is None else getattr(self, self.weight_name)

    @property
    def kind(self) -> str:
        """The name of the divergence that this one is: at the end of its weight's range it is
        another one."""
        for (name, end), limit in _LIMITS.items():
            if name == self.name and abs(self.weight - end) < _UNSEEN:
                return limit
        return self.name

    @property
    def factor(self) -> float:
        """What the value is multiplied by in a loss: T², or 1 for a divergence without."""
        return self.temperature**2 if DIVERGENCES[self.name].squared_temperature else 1.0

    @property
    def formula(self) -> str:
        """The divergence with its factor, in ASCII."""
        form = DIVERGENCES[self.name]
        return f"T^2*{form.formula}" if form.squared_temperature else form.formula
