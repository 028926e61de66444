"""Distillation of masked language models: at which positions, and that cutting changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import models, nn
from entrenar_core.autograd import ops
from entrenar_core.data.batches import IGNORED
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.masking import MaskedBatches, MaskedRows, MaskTokens
from entrenar_core.distill import (
    Distillation,
    Divergence,
    FeatureDistillation,
    LiveTeacher,
    shared_vocabulary,
)
from entrenar_core.distill.features import LayerPair, attention_term, hidden_term
from entrenar_core.models.reading import MASKED
from entrenar_core.testing import difference
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from masked_text import (
    PAD,
    SHAPES,
    VOCABULARY,
    around,
    documents,
    masked_config,
    masked_model,
    tokenizer,
)

TOKENS = MaskTokens.of(tokenizer())
LENGTHS = (18, 3, 11, 1, 7, 20, 14, 5)
DIVERGENCE = Divergence("jsd", temperature=2.0, beta=0.3)
WIDER = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 3},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 3},
    "distilbert": {"dim": 32, "n_layers": 3},
}


def batch(share=0.3):
    rows = MaskedRows(documents(*LENGTHS), seq_len=22, tokens=TOKENS, share=share)
    return rows.gather(np.arange(len(LENGTHS)), seed=0, purpose="test")


BATCH = batch()


def modelling(kind, dtype="float64"):
    return LanguageModelling(masked_model(kind, dtype=dtype), reading=MASKED)


def distillation(kind, dtype="float64", **teacher):
    student = masked_model(kind, dtype=dtype)
    given = masked_model(kind, seed=1, dtype=dtype, **{**WIDER[kind], **teacher})
    live = LiveTeacher(given, shared=VOCABULARY, reading=MASKED)
    return Distillation(student, live, divergence=DIVERGENCE, alpha=0.7, reading=MASKED)


def features(kind, dtype="float64"):
    """Losses of every normaliser: tokens, sequences, and pairs of tokens."""
    logits = distillation(kind, dtype)
    both, pairs = (logits.student, logits.teacher.model), [LayerPair(0, 0), LayerPair(1, 2)]
    terms = [
        hidden_term("cosine", *both, loss="cosine", pairs=pairs),
        attention_term("minilm", *both, loss="minilm", pairs=pairs, heads=4),
        attention_term("tinybert", *both, loss="tinybert", pairs=pairs),
    ]
    return FeatureDistillation(logits, logits.teacher, terms)


def model_of(objective):
    return getattr(objective, "logits", objective).student


def gradients(objective, model, batches):
    """Loss, gradients and parts of a step of micro-batches."""
    parameters = {**model.named_parameters(), **objective.parameters()}
    for parameter in parameters.values():
        parameter.grad = None
    objective.begin(0, batches)
    total, targets = 0.0, sum(b.targets for b in batches)
    for part in batches:
        loss = objective.loss(part, targets)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad for n, p in parameters.items()}, objective.parts()


def assert_same(found, wanted, bound):
    """Of each tensor; but the keys' biases change nothing, and their gradients are rounding errors
    alone."""
    largest = max(np.abs(gradient).max() for gradient in wanted.values())
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        if name.endswith(("key.bias", "k_lin.bias")):
            assert np.abs(found[name] - gradient).max() <= bound * largest, name
        else:
            assert difference(found[name], gradient) <= bound, name


# --- at which positions --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHAPES)
def test_the_loss_is_the_one_over_all_positions_of_which_the_others_are_ignored(kind):
    objective = distillation(kind)
    student, teacher = objective.student, objective.teacher.model
    loss, found, parts = gradients(objective, student, [BATCH])
    other, found_parts = masked_model(kind), ops.DistillationParts()
    told = teacher.hidden(BATCH.ids, BATCH.mask).data
    wanted = ops.linear_distillation(
        other.hidden(BATCH.ids, BATCH.mask), other.output_weight, BATCH.labels, other.output_bias,
        expected=ops.FromHidden(
            told, teacher.output_weight.data, shared=VOCABULARY, bias=teacher.output_bias.data
        ),
        divergence=DIVERGENCE, alpha=0.7, normalizer=BATCH.targets, parts=found_parts,
    )  # fmt: skip
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    assert parts == pytest.approx(vars(found_parts), rel=1e-12)
    assert_same(found, {n: p.grad for n, p in other.named_parameters().items()}, 1e-10)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_head_is_applied_to_the_positions_with_a_label_alone(kind):
    model = masked_model(kind)
    states = MASKED.states(model, BATCH)
    found = MASKED.predictions(model, states, BATCH.labels)
    assert found.rows.shape == (BATCH.targets, 24)
    assert found.targets.tolist() == BATCH.labels[BATCH.labels >= 0].tolist()
    assert BATCH.targets < 0.3 * BATCH.ids.size


@pytest.mark.parametrize("kind", SHAPES)
def test_more_padding_changes_nothing(kind):
    def padded(array, fill):
        return np.pad(array, [(0, 0), (0, 2)], constant_values=fill)

    wider = replace(
        BATCH, ids=padded(BATCH.ids, PAD), labels=padded(BATCH.labels, IGNORED),
        mask=padded(BATCH.mask, False),
    )  # fmt: skip
    objective = features(kind)
    runs = [gradients(objective, model_of(objective), [given]) for given in (BATCH, wider)]
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-12)
    assert_same(runs[1][1], runs[0][1], 1e-10)


@pytest.mark.parametrize("make", [modelling, distillation])
def test_without_a_label_there_is_no_loss_and_no_gradient(make):
    objective = make("bert")
    model = objective.model if make is modelling else objective.student
    nothing = replace(BATCH, labels=np.full_like(BATCH.labels, IGNORED))
    loss = objective.loss(nothing, 1)
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters())


def test_features_are_compared_at_all_positions_but_the_padding():
    objective = distillation("distilbert", dim=24)
    student, teacher = objective.student, objective.teacher.model
    term = hidden_term(
        "cosine", student, teacher, loss="cosine", pairs=[LayerPair(1, 2)], learned=False
    )
    both = FeatureDistillation(objective, objective.teacher, [term])
    _, _, parts = gradients(both, student, [BATCH])
    ours, theirs = (m.encoder.hidden(BATCH.ids, BATCH.mask).numpy() for m in (student, teacher))
    cosine = (
        (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
    )
    assert parts["cosine"] == pytest.approx((1 - cosine[BATCH.mask]).mean(), rel=1e-12)


# --- a step and its parts ------------------------------------------------------------------------


@pytest.mark.tier2
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("make", [modelling, distillation, features])
def test_how_a_step_is_cut_changes_neither_loss_nor_gradient(make, kind, dtype, bound):
    objective = make(kind, dtype)
    model = objective.model if make is modelling else model_of(objective)
    whole = gradients(objective, model, [BATCH])
    assert len({part.targets for part in BATCH.split(4)}) > 1
    for parts in (2, 4, 8):
        loss, found, told = gradients(objective, model, BATCH.split(parts))
        assert loss == pytest.approx(whole[0], rel=bound)
        assert told == pytest.approx(whole[2], rel=bound)
        assert_same(found, whole[1], bound)


def test_a_part_of_a_batch_has_its_part_of_the_mask():
    parts = BATCH.split(4)
    assert np.array_equal(np.concatenate([part.mask for part in parts]), BATCH.mask)
    assert np.array_equal(BATCH.part(slice(2), slice(5)).mask, BATCH.mask[:2, :5])


# --- the teacher ---------------------------------------------------------------------------------


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    student, teacher = masked_model("roberta"), masked_model("roberta")
    live = LiveTeacher(teacher, shared=VOCABULARY, reading=MASKED)
    objective = Distillation(student, live, divergence=DIVERGENCE, alpha=1.0, reading=MASKED)
    loss, found, parts = gradients(objective, student, [BATCH])
    assert loss == pytest.approx(0, abs=1e-14)
    assert parts["agreement"] == 1
    assert max(np.abs(gradient).max() for gradient in found.values()) <= 1e-14
    assert all(p.grad is None for p in teacher.parameters())


def test_a_teacher_drops_nothing_while_the_student_does():
    objective = distillation("bert")
    quiet = objective.loss(BATCH, BATCH.targets).item()
    with nn.dropout(seed=0, step=0):
        expected = objective.teacher.expected(BATCH)
        noisy = objective.loss(BATCH, BATCH.targets).item()
        (row,) = [expected.logits(slice(0, 1)).copy()]
    assert noisy != quiet
    assert np.array_equal(row, objective.teacher.expected(BATCH).logits(slice(0, 1)))


@pytest.mark.parametrize("kind", SHAPES)
def test_rows_of_padding_in_the_teachers_vocabulary_have_no_part(kind):
    plain, padded = distillation(kind), distillation(kind, vocab_size=VOCABULARY + 3)
    words = plain.teacher.model.named_parameters()
    for name, parameter in padded.teacher.model.named_parameters().items():
        parameter.data[: len(words[name].data)] = words[name].data
    assert len(padded.teacher.model.output_weight.data) == VOCABULARY + 3
    losses = [objective.loss(BATCH, BATCH.targets).item() for objective in (plain, padded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


def test_models_with_different_tokenizers_are_refused():
    student, teacher = masked_model("bert"), masked_model("bert")
    with pytest.raises(ConfigError, match="different tokenizers"):
        shared_vocabulary(teacher, student, tokenizer(), tokenizer(processor=around("$A [SEP]")))


# --- training ------------------------------------------------------------------------------------


def of_one_word_each():
    """Documents in which the words around a mask tell what is behind it."""
    texts = [np.full(12, word, np.int32) for word in TOKENS.text[:16]] * 4
    return TokenizedDocuments.from_arrays([str(i) for i in range(64)], texts, [12] * 64)


@pytest.mark.tier2
@pytest.mark.parametrize("distilled", [False, True])
def test_training_finds_what_the_words_around_a_mask_tell(distilled, tmp_path):
    config = masked_config("distilbert", initializer_range=0.1)
    student, teacher = (models.from_config(config, seed=i, head="masked-lm") for i in (0, 1))
    objective = LanguageModelling(student, reading=MASKED)
    if distilled:  # from a teacher that knows nothing
        live = LiveTeacher(teacher, shared=VOCABULARY, reading=MASKED)
        objective = Distillation(student, live, divergence=DIVERGENCE, alpha=0.1, reading=MASKED)
    trainer = TrainingLoop(
        student,
        objective,
        MaskedBatches(
            of_one_word_each(), seq_len=14, batch_size=16, seed=0, tokens=TOKENS, share=0.15
        ),
        TrainingConfig(max_steps=60, batch_size=16, learning_rate=0.01),
        phase="student",
        metrics=MetricsLog(tmp_path / "metrics.jsonl"),
        store=CheckpointStore(tmp_path / "checkpoints", run_id="a"),
        checkpoint_every=60,
    )
    trainer.fit()
    records = trainer.metrics.records("student")
    found = np.mean([record.get("cross_entropy", record["loss"]) for record in records[-10:]])
    without_context = np.log(16)  # all words are as frequent
    assert found < without_context / 2
