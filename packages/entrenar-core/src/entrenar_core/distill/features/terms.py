"""The losses of features by name, and terms made of them for a student and a teacher."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor
from entrenar_core.distill.features import attention, hidden, structure
from entrenar_core.distill.features.counts import Counts
from entrenar_core.distill.features.layers import EMBEDDINGS, LayerPair, check_pairs
from entrenar_core.distill.features.schedule import Schedule
from entrenar_core.distill.features.term import FeatureLoss, FeatureTerm
from entrenar_core.models.features import Heads, Selected, Wanted
from entrenar_core.rng import stream

__all__ = ["ATTENTION_LOSSES", "HIDDEN_LOSSES", "attention_term", "embeddings_pair", "hidden_term"]


def _per_token(counts: Counts, _student: Any, _teacher: Any) -> int:
    return counts.tokens


def _per_sequence(counts: Counts, _student: Any, _teacher: Any) -> int:
    return counts.sequences


def _per_pair(counts: Counts, student: Heads, teacher: Heads) -> int:
    causal, window = attention.visibility(student, teacher)
    return counts.pairs(causal=causal, window=window)


def _state(layer: int) -> Wanted:
    # the hidden state number m is what layer m − 1 gives
    return Wanted(hidden_states=frozenset([layer + 1]))


def _state_of(selected: Selected, layer: int) -> Tensor:
    return selected.hidden_states[layer + 1]


def _heads(layer: int) -> Wanted:
    return Wanted(heads=frozenset([layer]))


def _heads_of(selected: Selected, layer: int) -> Heads:
    return selected.heads[layer]


_of_states = partial(FeatureLoss, wanted=_state, take=_state_of)
_of_sequences = partial(_of_states, of_sequences=True)
_of_heads = partial(FeatureLoss, wanted=_heads, take=_heads_of, of_sequences=True)

HIDDEN_LOSSES = {
    "mse": _of_states(
        hidden.hidden_mse, _per_token, formula="‖W h_s − h_t‖²/d_t per token", projected=True
    ),
    "cosine": _of_states(
        hidden.hidden_cosine, _per_token, formula="1 − cos(W h_s, h_t) per token", projected=True
    ),
    "pkd": _of_states(
        hidden.patient_mse,
        _per_token,
        formula="‖W h_s/‖W h_s‖ − h_t/‖h_t‖‖² per token",
        projected=True,
    ),
    "similarity": _of_sequences(
        structure.similarity_preserving, _per_sequence, formula="‖G_s − G_t‖²/n² per sequence"
    ),
    "rkd_distance": _of_sequences(
        structure.distance_relation, _per_sequence, formula="smooth L1 of distances per sequence"
    ),
    "rkd_angle": _of_sequences(
        structure.angle_relation, _per_sequence, formula="smooth L1 of angles per sequence"
    ),
    "transfer": _of_sequences(
        hidden.attention_transfer, _per_sequence, formula="½‖Q_s − Q_t‖ per sequence"
    ),
    "transfer_squared": _of_sequences(
        hidden.attention_transfer_squared, _per_token, formula="‖Q_s − Q_t‖² per token"
    ),
}
"""Losses of hidden states. Those that are `projected` can have a learned projection."""

ATTENTION_LOSSES = {
    "tinybert": _of_heads(
        attention.score_mse, _per_pair, formula="(A_s − A_t)²/heads per pair of tokens"
    ),
    "minilm": _of_heads(
        attention.relation_divergence,
        _per_sequence,
        formula="Σ over Q, K, V of KL(R_t‖R_s)/(heads·n) per sequence",
    ),
}
"""Losses of queries, keys and values."""


def hidden_term(
    name: str,
    student: Any,
    teacher: Any,
    *,
    loss: str,
    pairs: Sequence[LayerPair],
    weight: float = 1.0,
    learned: bool = True,
    embeddings: LayerPair | None = None,
    seed: int = 0,
) -> FeatureTerm:
    """A term of `HIDDEN_LOSSES` for the models `student` and `teacher`.

    With `learned`, each pair has a projection (Glorot and Bengio 2010), drawn from `seed`, where
    the loss takes one; without, states are compared as they are, which needs equal widths.
    `embeddings`, a pair of EMBEDDINGS, is compared like the layers. Raises ConfigError for pairs
    that the models have not and for widths that differ without a projection.
    """
    found = HIDDEN_LOSSES[loss]
    check_pairs(pairs, student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    widths = teacher.config.hidden_size, student.config.hidden_size
    compared = [*pairs] if embeddings is None else [embeddings, *pairs]
    if not (found.projected and learned):
        if found.projected and widths[0] != widths[1]:
            raise ConfigError(
                f"{name}: the student's hidden states have {widths[1]} numbers, the teacher's "
                f"{widths[0]}",
                hint="learn a projection between them",
            )
        return FeatureTerm(name, found, pairs=compared, weight=weight)
    dtype = student.dtype
    projections = {
        pair: Parameter(_drawn(widths, seed, f"{name} projection {pair.key}", dtype))
        for pair in compared
    }
    return FeatureTerm(name, found, pairs=compared, weight=weight, projections=projections)


def attention_term(
    name: str,
    student: Any,
    teacher: Any,
    *,
    loss: str,
    pairs: Sequence[LayerPair],
    weight: float = 1.0,
    heads: int | None = None,
) -> FeatureTerm:
    """A term of `ATTENTION_LOSSES` for the models `student` and `teacher`.

    `heads` are the relation heads of "minilm", as many as the teacher has attention heads by
    default. Raises ConfigError for pairs that the models have not and heads that do not fit.
    """
    found = ATTENTION_LOSSES[loss]
    check_pairs(pairs, student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    if loss == "minilm":
        relations: int = heads or teacher.config.num_attention_heads
        _check_split(name, student.config, teacher.config, relations)
        found = replace(found, compute=partial(found.compute, heads=relations))
    else:
        _check_heads(name, student.config, teacher.config)
    return FeatureTerm(name, found, pairs=pairs, weight=weight)


def embeddings_pair(schedule: Schedule) -> LayerPair:
    """The pair of both embeddings."""
    return LayerPair(EMBEDDINGS, EMBEDDINGS, schedule)


def _drawn(shape: tuple[int, int], seed: int, purpose: str, dtype: np.dtype) -> np.ndarray:
    """Uniform in ±√(6/(inputs + outputs))."""
    limit = math.sqrt(6 / sum(shape))
    return stream(seed, purpose).uniform(-limit, limit, shape).astype(dtype)


def _check_heads(name: str, student: Any, teacher: Any) -> None:
    ours, theirs = student.num_attention_heads, teacher.num_attention_heads
    if ours != theirs:
        raise ConfigError(
            f"{name}: scores of {ours} heads cannot be compared with the teacher's {theirs} heads",
            hint="minilm compares models with any numbers of heads",
        )


def _check_split(name: str, student: Any, teacher: Any, heads: int) -> None:
    widths = {size for config in (student, teacher) for size in _vector_widths(config)}
    if any(width % heads for width in widths):
        limit = math.gcd(*widths)
        raise ConfigError(
            f"{name}: {heads} relation heads do not divide the widths "
            f"{', '.join(map(str, sorted(widths)))} of queries, keys and values",
            hint=f"choose a number of heads that divides {limit}",
        )


def _vector_widths(config: Any) -> tuple[int, int]:
    """Of queries, and of keys and values."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", heads)  # encoders have no groups
    return heads * config.head_dim, groups * config.head_dim
