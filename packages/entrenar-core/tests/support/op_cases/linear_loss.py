"""`ops.linear_loss`."""

import numpy as np

from entrenar_core.autograd import ops
from entrenar_core.distill import Divergence, Matching
from op_cases import case, normal

LABELS = np.array([[4, -100, 0], [-100, 6, 4]])


def _cross_entropy(hidden, weight, bias=None):
    return ops.linear_cross_entropy(hidden, weight, LABELS, bias, normalizer=4)


def _torch_cross_entropy(t, hidden, weight, bias=None):
    logits = t.nn.functional.linear(hidden, weight, bias).reshape(-1, len(weight))
    return t.nn.functional.cross_entropy(logits, t.tensor(LABELS).reshape(-1))


def _regularized_cross_entropy(hidden, weight):
    return ops.linear_cross_entropy(
        hidden, weight, LABELS, normalizer=4, label_smoothing=0.2, z_loss=0.3
    )


def _torch_regularized_cross_entropy(t, hidden, weight):
    logits = (hidden @ weight.T).reshape(-1, len(weight))
    labels = t.tensor(LABELS).reshape(-1)
    hard = t.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    return hard + 0.3 * (logits.logsumexp(-1)[labels >= 0] ** 2).mean()


def _distillation(temperature, alpha, shared, teacher_rows, *more):
    """With a bias of the student's head where `more` has one."""
    teacher_hidden, teacher_weight = normal(2, 3, 5), normal(teacher_rows, 5)

    def call(hidden, weight, bias=None):
        return ops.linear_distillation(
            hidden, weight, LABELS, bias,
            expected=ops.FromHidden(teacher_hidden, teacher_weight, shared=shared),
            divergence=Divergence(temperature=temperature), alpha=alpha, normalizer=4,
            parts=ops.DistillationParts(),
        )  # fmt: skip

    def torch(t, hidden, weight, bias=None):
        f = t.nn.functional
        logits = f.linear(hidden, weight, bias).reshape(-1, len(weight))
        teacher = t.tensor(teacher_hidden @ teacher_weight.T, dtype=hidden.dtype)
        labels = t.tensor(LABELS).reshape(-1)
        valid = labels >= 0
        q = f.log_softmax(logits[valid, :shared] / temperature, -1)
        p = f.log_softmax(teacher.reshape(6, -1)[valid, :shared] / temperature, -1)
        kl = f.kl_div(q, p, reduction="sum", log_target=True) / 4
        hard = f.cross_entropy(logits, labels)
        return alpha * temperature**2 * kl + (1 - alpha) * hard

    return case("linear_distillation", call, normal(2, 3, 4), normal(7, 4), *more, torch=torch)


def _divergence(name, top_k, torch):
    """Of a teacher without hidden states of its own: D alone, at T = 2."""
    teacher_hidden, teacher_weight = normal(2, 3, 5), normal(8, 5)

    def call(hidden, weight):
        return ops.linear_distillation(
            hidden, weight, LABELS,
            expected=ops.FromHidden(teacher_hidden, teacher_weight, shared=6),
            divergence=Divergence(name, 2.0, top_k=top_k), alpha=1.0, normalizer=4,
            parts=ops.DistillationParts(),
        )  # fmt: skip

    def whole(t, hidden, weight):
        valid = t.tensor(LABELS).reshape(-1) >= 0
        teacher = t.tensor(teacher_hidden @ teacher_weight.T, dtype=hidden.dtype)
        q, p = (
            t.softmax(z.reshape(6, -1)[valid, :6] / 2, -1) for z in (hidden @ weight.T, teacher)
        )
        return torch(t, p, q) / 4

    return case("linear_distillation", call, normal(2, 3, 4), normal(7, 4), torch=whole)


def _mixture(name, torch):
    """Of three teachers with hidden states of their own, D alone, at T = 2."""
    weights, rows = (0.5, 0.2, 0.3), (8, 6, 7)
    teachers = [
        (normal(2, 3, width), normal(n, width)) for width, n in zip((5, 3, 4), rows, strict=True)
    ]

    def call(hidden, weight):
        parts = [ops.FromHidden(hidden, weight, shared=6) for hidden, weight in teachers]
        return ops.linear_distillation(
            hidden, weight, LABELS, expected=ops.Mixed(parts, weights, shared=6),
            divergence=Divergence(name, 2.0), alpha=1.0, normalizer=4,
            parts=ops.DistillationParts(),
        )  # fmt: skip

    def whole(t, hidden, weight):
        valid = t.tensor(LABELS).reshape(-1) >= 0

        def probabilities(logits):
            return t.softmax(logits.reshape(6, -1)[valid, :6] / 2, -1)

        found = [t.tensor(h @ w.T, dtype=hidden.dtype) for h, w in teachers]
        p = sum(share * probabilities(z) for share, z in zip(weights, found, strict=True))
        return torch(t, p, probabilities(hidden @ weight.T)) / 4

    return case("linear_distillation", call, normal(2, 3, 4), normal(7, 4), torch=whole)


def _aligned(bias):
    """Groups of one token and of two on either side, with ids of both in no pair, at T = 2."""
    draws = np.random.default_rng(7)  # the inputs of the cases behind stay what they are
    labels, came = np.array([3, 1, 6, -100, 0, 2]), np.array([2, 5, 0, 4])
    groups = np.array([[0, 1, 0, 1], [1, 2, 1, 1], [4, 1, 2, 2]])
    matching = Matching(np.arange(5), np.array([1, 0, 2, 4, 3]), 7, 6, 0.7, 0.2)
    teacher = draws.standard_normal((4, 5)), draws.standard_normal((6, 5))

    def call(hidden, weight, bias=None):
        return ops.linear_aligned_distillation(
            hidden, weight, labels, bias,
            aligned=ops.Aligned(ops.FromHidden(*teacher, shared=6), came, groups, matching),
            divergence=Divergence(temperature=2.0), alpha=0.6, normalizer=5, groups=3,
            parts=ops.AlignedParts(),
        )  # fmt: skip

    def torch(t, hidden, weight, bias=None):
        logits = t.nn.functional.linear(hidden, weight, bias)
        told = t.tensor(teacher[0] @ teacher[1].T, dtype=hidden.dtype)
        soft = 0
        for first, count, place, their_count in groups.tolist():
            q = _merged(logits[first : first + count], labels[first : first + count])
            p = _merged(told[place : place + their_count], came[place : place + their_count])
            pairs = [x[list(ids)] for x, ids in ((q, matching.student), (p, matching.teacher))]
            q_all, p_all = (t.cat([x, 1 - x.sum()[None]]) for x in pairs)
            rest = q[5:].sort(descending=True).values - t.cat([p[5:], t.zeros_like(p[:1])])
            soft = soft + 0.7 * (p_all * (p_all / q_all).log()).sum() + 0.2 * rest.abs().sum()
        hard = t.nn.functional.cross_entropy(logits, t.tensor(labels))
        return 0.6 * 4 * soft / 3 + 0.4 * hard

    inputs = draws.standard_normal((6, 4)), draws.standard_normal((7, 4))
    more = [draws.standard_normal(7)] if bias else []
    return case("linear_aligned_distillation", call, *inputs, *more, torch=torch)


def _merged(logits, tokens):
    """softmax at the first place times the probabilities of the tokens that came at the others."""
    found = (logits[0] / 2).softmax(-1)
    for row, token in zip(logits[1:], tokens[1:], strict=True):
        found = found * (row / 2).softmax(-1)[int(token)]
    return found


CASES = [
    case(
        "linear_cross_entropy",
        _cross_entropy,
        normal(2, 3, 4),
        normal(7, 4),
        torch=_torch_cross_entropy,
    ),
    case(
        "linear_cross_entropy",
        _cross_entropy,
        normal(2, 3, 4),
        normal(7, 4),
        normal(7),
        torch=_torch_cross_entropy,
    ),
    case(
        "linear_cross_entropy",
        _regularized_cross_entropy,
        normal(2, 3, 4),
        normal(7, 4),
        torch=_torch_regularized_cross_entropy,
    ),
    _distillation(1.0, 0.5, 7, 7),
    _distillation(3.0, 1.0, 7, 9),
    _distillation(0.5, 0.0, 6, 6),
    _distillation(2.0, 0.9, 5, 8),
    _distillation(2.0, 0.6, 7, 7, normal(7)),
    _divergence("reverse_kl", None, lambda t, p, q: 4 * (q * (q / p).log()).sum()),
    _divergence("mse", None, lambda t, p, q: (p / q).log().var(-1, unbiased=False).sum()),
    _divergence(
        "tvd",
        1,
        lambda t, p, q: 4 * (p.amax(-1) - q.gather(-1, p.argmax(-1)[:, None])[:, 0]).abs().sum(),
    ),
    _mixture("forward_kl", lambda t, p, q: 4 * (p * (p / q).log()).sum()),
    _mixture("reverse_kl", lambda t, p, q: 4 * (q * (q / p).log()).sum()),
    _mixture("mse", lambda t, p, q: (p / q).log().var(-1, unbiased=False).sum()),
    _aligned(bias=False),
    _aligned(bias=True),
]
