"""Learning from a teacher with another vocabulary: distributions of groups of tokens, compared on
the ids that mean the same to both models, and by size on the others.

A group is a run of k tokens of one model whose bytes are those of a run of the other model's. With
ℓ = log softmax(z/T) at its first token, and y₂ … y_k the tokens that come after that,

    m(v) = e^ℓ(v) · s,   s = Π_j softmax(z_j/T)[y_j]

is the merged distribution, of which 1 − s is left over. docs/cross-tokenizer.md has the whole.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from entrenar_core.kernels.divergences import DIVERGENCES
from entrenar_core.kernels.loss import cross_entropy_grad, log_sum, log_sum_exp
from entrenar_core.kernels.registry import array_module, kernel

__all__ = ["FINITE", "Matching", "aligned_grad"]

Int64 = npt.NDArray[np.int64]

FINITE = ("forward_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl", "tvd")
"""Divergences that stay finite where the student gives probability to what the teacher cannot
say."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Which ids mean the same to both models, and what the two parts of the loss weigh.

    student, teacher: the ids of each pair, int64 (M,)
    student_ids, teacher_ids: how many ids each model has; its logits of others are left out
    matched_weight, sorted_weight: of the divergence over the pairs, and of the sorted difference
    student_only, teacher_only: the ids that are in no pair
    """

    student: Int64
    teacher: Int64
    student_ids: int
    teacher_ids: int
    matched_weight: float
    sorted_weight: float
    student_only: Int64 = field(init=False)
    teacher_only: Int64 = field(init=False)

    def __post_init__(self) -> None:
        for name in ("student", "teacher"):
            rest = np.setdiff1d(np.arange(getattr(self, f"{name}_ids")), getattr(self, name))
            object.__setattr__(self, f"{name}_only", rest)


@kernel
def aligned_grad(
    logits, teacher, targets, teacher_targets, groups,
    *, matching, divergence, alpha, scale, group_scale,
):  # fmt: skip
    """Cross-entropy per row, matched divergence and sorted difference per group; logits become the
    gradient of scale·(1 − α)·ΣCE + group_scale·α·T²·Σ(w_m·D + w_u·S).

    logits (n, V) with targets (n,), negative where a row does not count, which is then of no group;
    teacher (m, W) with the tokens that came (m,), and is overwritten; groups int64 (G, 4): the
    first row and the number of rows of each group in logits, then in teacher; no row is of two
    → ce (n,), D (G,), S (G,).
    D is the divergence between both merged distributions over the pairs of `matching` (Matching)
    and what is left of 1; where nothing can be left to the student, the teacher's is taken among
    the pairs alone. S is Σ|student − teacher| over the merged probabilities of all other ids, each
    side in falling order and continued by zeros. `divergence` has no top_k.
    Sources: Boizard et al. 2024, arXiv:2402.12030 (S); the GOLD trainer of TRL (merging, hybrid).
    """
    xp = array_module(logits)
    kind = logits.dtype.type
    t = kind(divergence.temperature)
    pairs = matching
    student = _Merged(
        xp, logits[:, : pairs.student_ids] / t, targets, groups[:, :2],
        pairs.student, pairs.student_only,
    )  # fmt: skip
    expected = _Merged(
        xp, teacher[:, : pairs.teacher_ids] / t, teacher_targets, groups[:, 2:],
        pairs.teacher, pairs.teacher_only,
    )  # fmt: skip
    value, on_pairs, on_rest = _matched(xp, divergence, expected, student)
    first, later = student.pull_of_outcomes(on_pairs, on_rest)
    first, later = kind(pairs.matched_weight) * first, kind(pairs.matched_weight) * later
    apart = xp.zeros_like(value)
    if pairs.sorted_weight:
        apart, pulled = _sorted(xp, expected.others(), student.others())
        pulled = kind(pairs.sorted_weight) * pulled
        first[:, pairs.student_only] += pulled
        later += pulled.sum(axis=-1)
    soft = kind(group_scale * alpha * divergence.factor) / t
    ce = cross_entropy_grad.reference(logits, targets, scale=scale * (1 - alpha))
    student.add_gradient(logits, soft * first, soft * later)
    return ce, value, apart


class _Merged:
    """The merged distributions of the groups of one model, from logits (n, V) that are divided by T
    already, and how derivatives by their logarithms become derivatives by logits."""

    def __init__(self, xp, logits, targets, groups, matched, unmatched):
        self.xp, self.matched, self.unmatched = xp, matched, unmatched
        kind, (first, count) = logits.dtype.type, groups.T
        self.first = first
        rows = logits[first]
        self.log_first = rows - log_sum_exp(xp, rows)  # (G, V)
        # the tokens after the first: their rows, and the groups that they are of
        self.owner = xp.repeat(xp.arange(len(first)), count - 1)
        step = xp.arange(len(self.owner)) - xp.repeat(xp.cumsum(count - 1) - count + 1, count - 1)
        self.later = first[self.owner] + 1 + step
        self.came = targets[self.later]
        self.logits = logits[self.later]
        at = xp.arange(len(self.later))
        picked = self.logits[at, self.came]
        rest = self.logits.copy()
        rest[at, self.came] = -xp.inf
        # log p = −log(1 + e^gap), exact also where p is nearly 1, as is 1 − p
        self.gap = log_sum(xp, rest)[:, 0] - picked
        self.total = picked + xp.logaddexp(kind(0), self.gap)
        each = -xp.logaddexp(kind(0), self.gap)
        log_s = xp.bincount(self.owner, each, minlength=len(first)).astype(logits.dtype)
        several = count > 1
        self.log_s = xp.where(several, xp.minimum(log_s, -xp.finfo(logits.dtype).tiny), kind(0))
        lost = xp.log(-xp.expm1(xp.where(several, self.log_s, kind(-1))))
        lost = xp.where(several, lost, -xp.inf)
        self.log_pairs = self.log_first[:, matched] + self.log_s[:, None]  # (G, M)
        unseen = log_sum(xp, self.log_first[:, unmatched])[:, 0]
        self.log_rest = xp.logaddexp(lost, self.log_s + unseen)

    def others(self):
        """The merged probabilities of the ids without a pair, (G, U)."""
        return self.xp.exp(self.log_first[:, self.unmatched] + self.log_s[:, None])

    def pull_of_outcomes(self, on_pairs, on_rest):
        """From q·∂/∂q for the pairs (G, M) and for what is left (G,): the derivatives by ℓ (G, V)
        and by log s (G,). Of q_r = 1 − s·Σ_M e^ℓ they are s·e^ℓ outside M, and −s·Σ_M e^ℓ."""
        xp = self.xp
        none = self.log_rest == -xp.inf
        share = xp.where(none, 0, on_rest)
        log_rest = xp.where(none, 0, self.log_rest)
        found = xp.zeros_like(self.log_first)
        found[:, self.matched] = on_pairs
        unseen = self.log_first[:, self.unmatched] + self.log_s[:, None]
        found[:, self.unmatched] = share[:, None] * xp.exp(unseen - log_rest[:, None])
        kept = xp.exp(self.log_pairs - log_rest[:, None]).sum(axis=-1)
        return found, on_pairs.sum(axis=-1) - share * kept

    def add_gradient(self, out, first, later):
        """Add to `out` the gradient by the logits of what has the derivatives `first` (G, V) by ℓ
        and `later` (G,) by log s."""
        xp, width = self.xp, self.log_first.shape[1]
        out[self.first, :width] += first - xp.exp(self.log_first) * first.sum(
            axis=-1, keepdims=True
        )
        p = xp.exp(self.logits - self.total[:, None])
        p[xp.arange(len(p)), self.came] = 0
        pull = -later[self.owner, None] * p
        # 1 − p of the one that came is the sum of the others
        pull[xp.arange(len(p)), self.came] = later[self.owner] * p.sum(axis=-1)
        out[self.later, :width] += pull


def _matched(xp, divergence, teacher, student):
    """The divergence (G,), and c = q·∂/∂q of it for the pairs (G, M) and for what is left (G,)."""
    impossible = student.log_rest == -xp.inf
    among = log_sum(xp, teacher.log_pairs)
    among = xp.where(among == -xp.inf, 0, among)  # without pairs
    log_p = teacher.log_pairs - xp.where(impossible[:, None], among, 0)
    # where nothing is left to either, 0 and 0 stand for two numbers whose logarithms are equal
    rest_q = xp.where(impossible, 0, student.log_rest)
    rest_p = xp.where(impossible, 0, teacher.log_rest)
    left = xp.where(impossible, 0, 1).astype(log_p.dtype)
    d = xp.concatenate([log_p - student.log_pairs, (rest_p - rest_q)[:, None]], axis=-1)
    p = xp.concatenate([xp.exp(log_p), (left * xp.exp(rest_p))[:, None]], axis=-1)
    q = xp.concatenate([xp.exp(student.log_pairs), (left * xp.exp(rest_q))[:, None]], axis=-1)
    weight = log_p.dtype.type(divergence.weight)
    terms, pull = DIVERGENCES[divergence.kind].terms(d, p, q, weight)
    value = terms.sum(axis=-1)
    return xp.where(value < 0, 0, value), pull[:, :-1], pull[:, -1]  # below 0 by rounding


def _sorted(xp, teacher, student):
    """Σ|x₍ᵣ₎ − y₍ᵣ₎| of what is in falling order (G,), and its x·∂/∂x (G, U)."""
    width, other = student.shape[1], teacher.shape[1]
    order = xp.argsort(-student, axis=-1, kind="stable")
    mine = xp.take_along_axis(student, order, axis=-1)
    theirs = xp.zeros((len(student), max(width, other)), student.dtype)
    theirs[:, :other] = -xp.sort(-teacher, axis=-1)
    apart = mine - theirs[:, :width]
    total = xp.abs(apart).sum(axis=-1) + theirs[:, width:].sum(axis=-1)
    pull = xp.zeros_like(student)
    xp.put_along_axis(pull, order, mine * xp.sign(apart), axis=-1)
    return total, pull
