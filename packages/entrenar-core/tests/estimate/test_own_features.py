"""What losses of features are said to keep, beside what their pullbacks really hold."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import memory_report, no_grad
from entrenar_core.distill import features
from entrenar_core.distill.features.counts import Counts
from entrenar_core.distill.features.terms import ATTENTION_LOSSES, HIDDEN_LOSSES
from entrenar_core.estimate.distilling import Compared
from entrenar_core.estimate.own_features import LOSSES, kept
from entrenar_core.estimate.own_weights import FLOAT
from entrenar_core.estimate.shape import model_shape
from entrenar_core.models.features import Wanted

BATCH, TIME, HEADS = 2, 48, 8
COMMON = {
    "model_type": "llama", "intermediate_size": 64, "num_hidden_layers": 3, "vocab_size": 50,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
STUDENT = {**COMMON, "hidden_size": 32, "num_key_value_heads": 2}
TEACHER = {**COMMON, "hidden_size": 64}
PAIR = [features.LayerPair(1, 1)]  # not the last: its states are kept by the norm of the next one


def term_of(loss, student, teacher):
    if loss in ATTENTION_LOSSES:
        heads = HEADS if loss == "minilm" else None
        return features.attention_term(loss, student, teacher, loss=loss, pairs=PAIR, heads=heads)
    return features.hidden_term(loss, student, teacher, loss=loss, pairs=PAIR)


def test_every_loss_is_known():
    assert set(LOSSES) == {*HIDDEN_LOSSES, *ATTENTION_LOSSES}


@pytest.mark.tier2
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_keeps_what_is_said(loss):
    student, teacher = (models.from_config(raw, seed=0) for raw in (STUDENT, TEACHER))
    term = term_of(loss, student, teacher)
    ids, mask = np.full((BATCH, TIME), 5), np.ones((BATCH, TIME), bool)
    ids += np.arange(TIME)  # no two positions alike
    ids %= COMMON["vocab_size"]
    ours, theirs = term.wanted(0)
    # the pass is kept whole, as it is by the loss of logits
    ours |= Wanted(hidden_states=frozenset([COMMON["num_hidden_layers"]]))
    with no_grad():
        expected = teacher.select_features(ids, theirs)
    found = student.select_features(ids, ours)
    before = memory_report().bytes
    value = term.value(found, expected, mask, step=0, counts=Counts((mask,)))
    held = memory_report().bytes - before
    del value
    shapes = [model_shape(raw, name="", origin="") for raw in (STUDENT, TEACHER)]
    learned = bool(term.projections)
    said = kept(Compared(loss, ((1, 1),), learned=learned, heads=HEADS), *shapes)
    assert held == pytest.approx(FLOAT * BATCH * TIME * (said.tokens + said.pairs * TIME), rel=0.01)
