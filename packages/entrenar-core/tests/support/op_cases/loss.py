"""`ops.loss`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import RNG, away_from_zero, case, normal

LABELS = np.array([[4, -100, 0], [-100, 6, 4]])
REDUCTIONS = ("mean", "sum", "none")


def _cross_entropy(logits, labels, *, smoothing=0.0, z_loss=0.0, reduction="mean", ignore=-100):
    options = {"ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}

    def torch(t, z):
        rows, flat = z.reshape(-1, z.shape[-1]), t.tensor(labels).reshape(-1)
        hard = t.nn.functional.cross_entropy(rows, flat, **options)
        squares = rows.logsumexp(-1) ** 2 * (flat != ignore)
        if reduction == "none":
            return (hard + z_loss * squares).reshape(labels.shape)
        extra = squares.sum() / ((flat != ignore).sum() if reduction == "mean" else 1)
        return hard + z_loss * extra

    def call(z):
        return ops.cross_entropy(z, labels, z_loss=z_loss, **options)

    return case("cross_entropy", call, logits, torch=torch)


def _probabilities(*shape):
    return np.asarray(RNG.uniform(0.1, 0.9, shape))


def _binary(name, draw, shape, reduction, **options):
    function = getattr(ops, name)

    def torch(t, x, y):
        given = {k: t.tensor(v, dtype=x.dtype) for k, v in options.items()}
        return getattr(t.nn.functional, name)(x, y, reduction=reduction, **given)

    def call(x, y):
        return function(x, y, reduction=reduction, **options)

    return case(name, call, np.asarray(draw(*shape)), _probabilities(*shape), torch=torch)


LOGITS = "binary_cross_entropy_with_logits"


def _distribution(*shape):
    e = np.exp(0.5 * normal(*shape))  # a difference quotient of log p is no good near p = 0
    return e / e.sum(axis=-1, keepdims=True)


def _kl(*shape, log_target, reduction="mean"):
    def torch(t, log_q, p):
        terms = t.nn.functional.kl_div(log_q, p, reduction="none", log_target=log_target).sum(-1)
        return terms if reduction == "none" else getattr(terms, reduction)()

    def call(log_q, p):
        return ops.kl_divergence(log_q, p, log_target=log_target, reduction=reduction)

    log_q, p = np.log(_distribution(*shape)), _distribution(*shape)
    return case("kl_divergence", call, log_q, np.log(p) if log_target else p, torch=torch)


def _compared(name, torch_name, shape, reduction, **options):
    function = getattr(ops, name)

    def torch(t, x, y):
        return getattr(t.nn.functional, torch_name)(x, y, reduction=reduction, **options)

    def call(x, y):
        return function(x, y, reduction=reduction, **options)

    x = normal(*shape)
    return case(name, call, x, np.asarray(x + away_from_zero(*shape)), torch=torch)


def _cosine(x, y, axis):
    def torch(t, x, y):
        return t.nn.functional.cosine_similarity(x, y, dim=axis)

    return case(
        "cosine_similarity", lambda x, y: ops.cosine_similarity(x, y, axis=axis), x, y, torch=torch
    )


def _info_nce(queries, keys, *, symmetric=False):
    def call(q, k):
        return ops.info_nce(q, k, temperature=0.3, symmetric=symmetric)

    def torch(t, q, k):
        f = t.nn.functional
        logits = f.normalize(q, dim=-1) @ f.normalize(k, dim=-1).T / 0.3
        loss = f.cross_entropy(logits, t.arange(len(q)))
        return (loss + f.cross_entropy(logits.T, t.arange(len(q)))) / 2 if symmetric else loss

    return case("info_nce", call, queries, keys, torch=torch)


SHAPES = ((3, 4), (1,), (1, 1), ())

CASES = [
    *(_cross_entropy(normal(2, 3, 7), LABELS, reduction=r) for r in REDUCTIONS),
    *(_cross_entropy(normal(2, 3, 7), LABELS, smoothing=0.1, reduction=r) for r in REDUCTIONS),
    *(_cross_entropy(normal(2, 3, 7), LABELS, z_loss=0.3, reduction=r) for r in REDUCTIONS),
    _cross_entropy(normal(2, 3, 7), LABELS, smoothing=0.2, z_loss=0.3),
    _cross_entropy(normal(4, 5), np.array([2, 0, 1, 2]), ignore=2),
    _cross_entropy(normal(1, 2), np.array([1])),
    _cross_entropy(normal(5), np.array(3)),
    _cross_entropy(normal(0, 5), np.zeros(0, np.int64), reduction="none"),
    *(_binary(LOGITS, normal, (3, 4), r) for r in REDUCTIONS),
    *(_binary(LOGITS, normal, shape, "mean") for shape in SHAPES),
    _binary(LOGITS, normal, (3, 4), "mean", pos_weight=np.array([0.5, 1.0, 2.0, 3.0])),
    _binary(LOGITS, normal, (3, 4), "none", pos_weight=2.5),
    _binary(LOGITS, normal, (0, 4), "sum"),
    *(_binary("binary_cross_entropy", _probabilities, (3, 4), r) for r in REDUCTIONS),
    *(_binary("binary_cross_entropy", _probabilities, shape, "mean") for shape in SHAPES),
    *(_kl(2, 3, 5, log_target=log, reduction=r) for log in (False, True) for r in REDUCTIONS),
    _kl(1, 2, log_target=False),
    _kl(0, 3, log_target=True, reduction="sum"),
    *(
        _compared(name, torch_name, shape, reduction, **options)
        for name, torch_name, options in (
            ("mse", "mse_loss", {}),
            ("l1", "l1_loss", {}),
            ("smooth_l1", "smooth_l1_loss", {"beta": 0.7}),
            ("smooth_l1", "smooth_l1_loss", {"beta": 1.0}),
            ("smooth_l1", "smooth_l1_loss", {"beta": 0.0}),
        )
        for shape, reduction in (
            *(((3, 4), r) for r in REDUCTIONS),
            *((shape, "mean") for shape in SHAPES),
            ((0, 4), "sum"),
        )
    ),
    _cosine(normal(3, 4), normal(3, 4), -1),
    _cosine(normal(3, 4), normal(3, 4), 0),
    _cosine(normal(2, 1, 4), normal(3, 4), -1),
    _cosine(normal(5), normal(5), 0),
    _cosine(normal(0, 4), normal(0, 4), 1),
    _info_nce(normal(4, 5), normal(4, 5)),
    _info_nce(normal(4, 5), normal(4, 5), symmetric=True),
    _info_nce(normal(3, 5), normal(6, 5)),
    _info_nce(normal(1, 2), normal(2, 2)),
]
