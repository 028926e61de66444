"""From the logits of a position to the token that is taken: scores are float64, −∞ for what cannot
be drawn, and every rule is a function of its own."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ConfigError


def penalise_repetition(scores: np.ndarray, seen: Iterable[int], penalty: float) -> np.ndarray:
    """Scores (V,) of the tokens in `seen` divided by `penalty` where positive, else multiplied.

    Source: Keskar et al. 2019, arXiv:1909.05858.
    """
    ids = np.unique(np.fromiter(seen, np.int64))
    ids = ids[ids < len(scores)]
    changed = scores.copy()
    changed[ids] = np.where(scores[ids] < 0, scores[ids] * penalty, scores[ids] / penalty)
    return changed


def keep_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Only the k largest scores (V,), and what equals the smallest of them.

    Source: Fan et al. 2018, arXiv:1805.04833.
    """
    if k >= len(scores):
        return scores
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.where(scores >= least, scores, -np.inf)


def keep_top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Only the fewest most likely tokens whose probabilities reach p together.

    Source: Holtzman et al. 2019, arXiv:1904.09751.
    """
    possible = np.flatnonzero(scores > -np.inf)
    order = possible[np.argsort(-scores[possible], kind="stable")]
    mass = np.cumsum(probabilities(scores[order]))
    # a token is kept when those before it have not yet reached p
    kept = order[: int(np.searchsorted(mass, p, side="left")) + 1]
    cut = np.full_like(scores, -np.inf)
    cut[kept] = scores[kept]
    return cut


def keep_min_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Only tokens that are at least p times as likely as the most likely one.

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    return np.where(np.exp(scores - scores.max()) >= p, scores, -np.inf)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """softmax(scores), of one axis."""
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def draw(scores: np.ndarray, uniform: float) -> int:
    """The first token at which the cumulative probability exceeds `uniform` (0 ≤ it < 1)."""
    possible = np.flatnonzero(scores > -np.inf)
    cumulative = np.cumsum(probabilities(scores[possible]))
    index = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return int(possible[min(int(index), len(possible) - 1)])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen: by the rules above in this order, those that change nothing left out.

    With temperature 0 the most likely token is taken, after the penalty for repetition.
    Raises ConfigError with every option that is out of its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)!r} is not {wanted}"
            for name, (fits, wanted) in _RANGES.items()
            if not fits(getattr(self, name))
        ]
        if problems:
            raise ConfigError(
                f"generate: {'; '.join(problems)}", hint="give values within these ranges"
            )

    @property
    def draws(self) -> bool:
        """Whether chance has a part in it."""
        return self.temperature > 0

    def choose(self, logits: np.ndarray, seen: Iterable[int], uniform: float) -> int:
        """The next token after the tokens `seen`, of which `logits` (V,) are the model's."""
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1:
            scores = penalise_repetition(scores, seen, self.repetition_penalty)
        if self.temperature == 0:
            return int(scores.argmax())
        scores = scores / self.temperature
        if self.top_k is not None:
            scores = keep_top_k(scores, self.top_k)
        if self.top_p < 1:
            scores = keep_top_p(scores, self.top_p)
        if self.min_p > 0:
            scores = keep_min_p(scores, self.min_p)
        return draw(scores, uniform)


_RANGES = {
    "temperature": (lambda x: 0 <= x < np.inf, "a finite number of at least 0"),
    "top_k": (lambda x: x is None or (type(x) is int and x >= 1), "an integer of at least 1"),
    "top_p": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "min_p": (lambda x: 0 <= x <= 1, "from 0 to 1"),
    "repetition_penalty": (lambda x: 0 < x < np.inf, "a positive finite number"),
}
