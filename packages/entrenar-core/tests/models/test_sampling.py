"""The rules of sampling, each by its definition."""

import math

import numpy as np
import pytest

from entrenar_core.models.sampling import (
    Sampling,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
    probabilities,
)

OUT = -np.inf
SCORES = np.log([0.4, 0.1, 0.3, 0.2])  # the probabilities are 0.4, 0.1, 0.3, 0.2


def kept(scores):
    return np.flatnonzero(scores > OUT).tolist()


def test_a_penalty_divides_positive_scores_and_multiplies_negative_ones():
    found = penalise_repetition(np.array([2.0, -2.0, 3.0, 0.0, -1.0]), [0, 1, 1, 3], 4.0)
    assert found.tolist() == [0.5, -8.0, 3.0, 0.0, -1.0]


def test_a_penalty_passes_over_ids_that_the_head_has_not():
    assert penalise_repetition(np.array([2.0, 1.0]), [0, 7], 2.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("k", "wanted"), [(1, [0]), (3, [0, 2, 3]), (4, [0, 1, 2, 3]), (9, 4)])
def test_top_k_keeps_the_k_largest(k, wanted):
    assert kept(keep_top_k(SCORES, k)) == (list(range(wanted)) if k == 9 else wanted)


def test_top_k_keeps_what_equals_the_smallest_of_them():
    assert kept(keep_top_k(np.array([1.0, 0.0, 1.0, 2.0]), 2)) == [0, 2, 3]


@pytest.mark.parametrize(
    ("p", "wanted"),
    [(0.01, [0]), (0.39, [0]), (0.41, [0, 2]), (0.69, [0, 2]), (0.95, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_p(p, wanted):
    assert kept(keep_top_p(SCORES, p)) == wanted


def test_top_p_counts_what_an_earlier_rule_left():
    # of 0.4, 0.3 and 0.2 in 0.9 the first two have 0.78
    assert kept(keep_top_p(keep_top_k(SCORES, 3), 0.77)) == [0, 2]
    assert kept(keep_top_p(keep_top_k(SCORES, 3), 0.79)) == [0, 2, 3]


@pytest.mark.parametrize(
    ("p", "wanted"), [(0.2, [0, 1, 2, 3]), (0.3, [0, 2, 3]), (0.7, [0, 2]), (1.0, [0])]
)
def test_min_p_keeps_those_at_least_p_times_as_likely_as_the_best(p, wanted):
    assert kept(keep_min_p(SCORES, p)) == wanted


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.399, 0), (0.401, 1), (0.501, 2), (0.801, 3), (0.999, 3)]
)
def test_a_draw_inverts_the_cumulative_probability(uniform, token):
    assert draw(SCORES, uniform) == token


def test_what_is_cut_is_never_drawn():
    scores = keep_top_k(SCORES, 2)
    assert {draw(scores, u) for u in np.linspace(0, math.nextafter(1, 0), 50)} == {0, 2}


def test_probabilities_of_large_scores_are_finite():
    assert probabilities(np.array([1000.0, 1000.0])).tolist() == [0.5, 0.5]


def test_the_rules_apply_in_their_order():
    logits = np.array([3.0, 2.9, 2.8, -1.0], np.float32)
    sampling = Sampling(temperature=0.5, top_k=2, top_p=0.9, min_p=0.5, repetition_penalty=2.0)
    scores = penalise_repetition(logits.astype(np.float64), [0], 2.0) / 0.5
    scores = keep_min_p(keep_top_p(keep_top_k(scores, 2), 0.9), 0.5)
    assert kept(scores) == [1, 2]
    for uniform in (0.0, 0.3, 0.6, 0.99):
        assert sampling.choose(logits, [0], uniform) == draw(scores, uniform)


def test_without_temperature_the_most_likely_token_is_taken_after_the_penalty():
    logits = np.array([3.0, 2.0, 1.0], np.float32)
    assert Sampling().choose(logits, [0], 0.9) == 0
    assert Sampling(repetition_penalty=2.0).choose(logits, [0], 0.9) == 1


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (
            lambda s, ids: penalise_repetition(s, ids, 1.7),
            ("RepetitionPenaltyLogitsProcessor", 1.7),
        ),
        (
            lambda s, ids: penalise_repetition(s, ids, 0.6),
            ("RepetitionPenaltyLogitsProcessor", 0.6),
        ),
        (lambda s, _: s / 0.7, ("TemperatureLogitsWarper", 0.7)),
        (lambda s, _: keep_top_k(s, 1), ("TopKLogitsWarper", 1)),
        (lambda s, _: keep_top_k(s, 17), ("TopKLogitsWarper", 17)),
        (lambda s, _: keep_top_k(s, 500), ("TopKLogitsWarper", 500)),
        (lambda s, _: keep_top_p(s, 0.1), ("TopPLogitsWarper", 0.1)),
        (lambda s, _: keep_top_p(s, 0.85), ("TopPLogitsWarper", 0.85)),
        (lambda s, _: keep_min_p(s, 0.05), ("MinPLogitsWarper", 0.05)),
        (lambda s, _: keep_min_p(s, 0.9), ("MinPLogitsWarper", 0.9)),
    ],
)
def test_each_rule_is_that_of_transformers(rule, theirs, seed):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(seed)
    scores, ids = 3 * rng.standard_normal(200), rng.integers(0, 200, 40)
    name, value = theirs
    processor = getattr(transformers.generation.logits_process, name)(value)
    wanted = processor(torch.from_numpy(ids)[None], torch.from_numpy(scores)[None])[0].numpy()
    found = rule(scores, ids)
    assert kept(found) == kept(wanted)
    assert np.allclose(found[kept(found)], wanted[kept(found)], rtol=1e-14, atol=0)
