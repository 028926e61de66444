"""Documents that are packed with boundaries, beside the same documents in rows of their own."""

import numpy as np
import pytest

from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation, Divergence, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import LayerPair, attention_term, hidden_term
from entrenar_core.distill.features.terms import ATTENTION_LOSSES, HIDDEN_LOSSES
from entrenar_core.testing import difference, tiny_llama, tiny_model
from entrenar_core.train.objective import LanguageModelling

EOS, PAD, ROWS, TIME = 60, 59, 8, 12
GROUPS = [[4, 6], [11], [1, 2, 6], [0, 10], [5, 5], [2, 1, 1, 4], [7, 3], [8, 2]]
"""Tokens of the documents in each row, without the EOS of each: none is cut by a row's end."""
COUNTS = [count for group in GROUPS for count in group]
TERMS = [
    *(("hidden", name) for name in HIDDEN_LOSSES),
    *(("attention", name) for name in ATTENTION_LOSSES),
]


def documents(*counts):
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 59, n).astype(np.int32) for n in counts]
    return TokenizedDocuments.from_arrays([str(i) for i in range(len(ids))], ids, list(counts))


def packed():
    """One batch of all rows. The last row of a stream needs a token that follows it."""
    return Batches(
        documents(*COUNTS, 1), seq_len=TIME, batch_size=ROWS, seed=0, eos_id=EOS, boundaries=True
    ).batch(0)


def padded():
    """One batch of the same documents, each in a row of its own."""
    rows = sum(count > 0 for count in COUNTS)
    return Batches(
        documents(*COUNTS), seq_len=TIME, batch_size=rows, seed=0, eos_id=EOS, pad_id=PAD,
        packing=False,
    ).batch(0)  # fmt: skip


def language_modelling(model):
    return LanguageModelling(model)


def distillation(model):
    teacher = tiny_llama(seed=1, dtype="float64", hidden_size=32, vocab_size=70)
    live = LiveTeacher(teacher, shared=61)
    return Distillation(model, live, divergence=Divergence(temperature=2.0), alpha=0.7)


def term_of(model, teacher, family, loss):
    pairs = [LayerPair(0, 1), LayerPair(1, 1)]
    make = {"hidden": hidden_term, "attention": attention_term}[family]
    return make(loss, model, teacher, loss=loss, pairs=pairs)


def features(family, loss):
    def objective(model):
        logits = distillation(model)
        term = term_of(model, logits.teacher.model, family, loss)
        return FeatureDistillation(logits, logits.teacher, [term])

    return objective


OBJECTIVES = {
    "language modelling": language_modelling,
    "distillation": distillation,
    **{loss: features(family, loss) for family, loss in TERMS},
}


def step(objective, batch, parts=1, kind="llama"):
    """The loss of one optimizer step, and its gradients."""
    model = tiny_model(kind, dtype="float64")
    task = objective(model)
    micro_batches = batch.split(parts)
    task.begin(0, micro_batches)
    total = 0.0
    for each in micro_batches:
        loss = task.loss(each, batch.targets)
        loss.backward()
        total += loss.item()
    trained = {**model.named_parameters(), **task.parameters()}
    return total, {name: parameter.grad for name, parameter in trained.items()}


def agree(found, wanted, bound):
    assert found[0] == pytest.approx(wanted[0], rel=bound)
    assert max(difference(found[1][name], wanted[1][name]) for name in wanted[1]) <= bound


def test_packing_with_boundaries_has_the_targets_of_rows_of_their_own():
    assert packed().targets == padded().targets == sum(COUNTS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_that_of_documents_in_rows_of_their_own(objective):
    found, wanted = (step(OBJECTIVES[objective], batch) for batch in (packed(), padded()))
    agree(found, wanted, 1e-12)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "gpt2"])
def test_it_is_so_for_every_architecture(kind):
    found, wanted = (step(language_modelling, batch, kind=kind) for batch in (packed(), padded()))
    agree(found, wanted, 1e-12)


@pytest.mark.tier2
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_how_a_step_is_cut_changes_nothing(objective):
    wanted = step(OBJECTIVES[objective], packed())
    for parts in (2, 8):
        agree(step(OBJECTIVES[objective], packed(), parts), wanted, 1e-12)


@pytest.mark.tier2
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_boundaries_the_gradient_is_another(objective):
    batch = packed()
    whole = type(batch)(batch.ids, batch.labels, batch.row_ids, batch.documents, batch.positions)
    (_, found), (_, other) = (step(OBJECTIVES[objective], each) for each in (batch, whole))
    assert max(difference(found[name], other[name]) for name in found) > 1e-3
