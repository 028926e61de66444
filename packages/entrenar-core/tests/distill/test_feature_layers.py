"""Which layers are compared, when, and what a step divides by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core.distill.features import Counts, LayerPair, Schedule, check_pairs, layer_pairs
from entrenar_core.distill.features.counts import seen
from feature_cases import MASKS


def teachers(rule, student, teacher, **options):
    pairs = layer_pairs(rule, student, teacher, **options)
    assert [pair.student for pair in pairs] == list(range(student))
    return [pair.teacher for pair in pairs]


def test_rules_give_the_layers_of_the_papers():
    assert teachers("uniform", 4, 12) == [2, 5, 8, 11]  # TinyBERT's g(m) = 3m, counted from 1
    assert teachers("uniform", 3, 8) == [1, 4, 7]
    assert teachers("last", 4, 12) == [8, 9, 10, 11]
    assert teachers("skip", 5, 12, every=2) == [1, 3, 5, 7, 9]  # PKD-Skip, without its last layer
    assert teachers("skip", 4, 12, every=3) == [2, 5, 8, 11]
    assert layer_pairs("final", 4, 12) == [LayerPair(3, 11)]


@given(st.integers(1, 40), st.integers(1, 40))
def test_uniform_pairs_rise_and_end_at_both_last_layers(student, more):
    found = teachers("uniform", student, student + more)
    assert found == sorted(set(found))
    assert found[-1] == student + more - 1


@pytest.mark.parametrize(
    ("rule", "student", "teacher", "every", "pair"),
    [
        ("uniform", 4, 3, 2, r"\[0, -1\]"),
        ("last", 4, 3, 2, r"\[0, -1\]"),
        ("skip", 4, 7, 2, r"\[3, 7\]"),
    ],
)
def test_a_rule_that_goes_beyond_the_depth_names_the_pair(rule, student, teacher, every, pair):
    with pytest.raises(ConfigError, match=pair):
        layer_pairs(rule, student, teacher, every=every)


@pytest.mark.parametrize(
    ("pair", "model"), [((2, 5), "student"), ((1, 6), "teacher"), ((-1, 2), "student")]
)
def test_an_explicit_pair_beyond_the_depth_is_named(pair, model):
    with pytest.raises(ConfigError, match=rf"\[{pair[0]}, {pair[1]}\].*the {model} has"):
        check_pairs([LayerPair(0, 0), LayerPair(*pair)], 2, 6)


def test_a_pair_given_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        check_pairs([LayerPair(0, 1), LayerPair(0, 1, Schedule(5))], 2, 6)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="'odd'"):
        layer_pairs("odd", 2, 6)


def test_a_schedule_starts_rises_and_ends():
    schedule = Schedule(from_step=3, until_step=9, ramp_steps=4)
    wanted = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 0, 0]
    assert [schedule.factor(step) for step in range(11)] == wanted
    assert {Schedule().factor(step) for step in range(3)} == {1.0}


@pytest.mark.parametrize("wrong", [(-1, None, 0), (0, 0, 0), (4, 3, 0), (0, None, -1)])
def test_a_schedule_of_no_steps_is_refused(wrong):
    with pytest.raises(ConfigError):
        Schedule(*wrong)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_counted_as_they_are_seen(causal, window):
    masks = tuple(MASKS.values())
    matrices = [
        seen(np.flatnonzero(row), causal=causal, window=window) for mask in masks for row in mask
    ]
    assert Counts(masks).pairs(causal=causal, window=window) == sum(m.sum() for m in matrices)


def test_tokens_and_sequences_are_those_that_count():
    counts = Counts((MASKS["right"], MASKS["holes"]))
    assert (counts.tokens, counts.sequences) == (13 + 8, 3 + 2)
    assert Counts((np.zeros((2, 3), bool),)).tokens == 1
