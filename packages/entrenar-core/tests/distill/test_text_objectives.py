"""Objectives about whole texts: their values in closed form, and what may not change them."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.data.text_batches import TextBatch, TextBatches
from entrenar_core.distill import (
    DIVERGENCES,
    ClassificationDistillation,
    Divergence,
    EmbeddingDistillation,
    KeptTextTeacher,
    LabelClassification,
    LiveTextTeacher,
    TextReading,
    new_projection,
)
from entrenar_core.distill.features import LayerPair, hidden_term
from entrenar_core.testing import check_grads, difference, tiny_model
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from text_cases import encoder, texts_of

LENGTHS = [4, 5, 6, 7, 8, 9, 11, 12]
LABELS = [0, 2, 1, 1, 0, 2, 2, 0]
CLASSES = {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}


def batch_of(texts, rows=None, *, extra=0):
    """Some rows as one batch, with `extra` columns of padding that is full of other ids."""
    rows = np.arange(len(texts)) if rows is None else np.asarray(rows)
    ids, mask, types = texts.padded(rows, 0)
    wide = (len(ids), extra)
    junk = np.random.default_rng(9).integers(5, 20, wide)
    labels = None if texts.labels is None else texts.labels[rows]
    return TextBatch(
        np.hstack([ids, junk]),
        np.hstack([mask, np.zeros(wide, bool)]),
        rows,
        labels,
        None if types is None else np.hstack([types, np.zeros(wide, np.int64)]),
    )


def embedding_objective(dtype="float32", *, width=24, teacher=None, terms=(), **options):
    student = encoder("embedding", seed=1, dtype=dtype, hidden_size=width, num_hidden_layers=1)
    theirs = encoder("embedding", seed=2, dtype=dtype)
    found = terms(student, theirs) if callable(terms) else terms
    reading = TextReading(student, teacher or LiveTextTeacher(theirs), found)
    return EmbeddingDistillation(reading, **options)


def class_objective(dtype="float32", *, alpha=0.6, divergence=None, terms=()):
    student = encoder(
        "sequence-classification", seed=1, dtype=dtype, num_hidden_layers=1, **CLASSES
    )
    theirs = encoder("sequence-classification", seed=2, dtype=dtype, **CLASSES)
    found = terms(student, theirs) if callable(terms) else terms
    return ClassificationDistillation(
        TextReading(student, LiveTextTeacher(theirs), found),
        divergence=divergence or Divergence(temperature=2.0),
        alpha=alpha,
    )


def hidden(student, teacher):
    return [hidden_term("hidden_mse", student, teacher, loss="mse", pairs=[LayerPair(0, 1)])]


OBJECTIVES = {
    "cosine": lambda dtype: embedding_objective(dtype, terms=hidden),
    "mse": lambda dtype: embedding_objective(dtype, loss="mse"),
    "projected": lambda dtype: embedding_objective(
        dtype, width=12, projection=new_projection(24, 12, seed=0, dtype=np.dtype(dtype))
    ),
    "classes": lambda dtype: class_objective(dtype, terms=hidden),
    "labels": lambda dtype: LabelClassification(
        encoder("sequence-classification", seed=1, dtype=dtype, **CLASSES)
    ),
}


def value_and_gradients(objective, batch, normalizer):
    model = objective.model if hasattr(objective, "model") else objective.reading.student
    for parameter in model.parameters():
        parameter.grad = None
    objective.begin(0, [batch])
    loss = objective.loss(batch, normalizer)
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters() if p.grad is not None]


# --- values -----------------------------------------------------------------------------------


def test_the_cosine_loss_is_the_mean_of_one_minus_the_cosine():
    objective, batch = embedding_objective("float64"), batch_of(texts_of(LENGTHS))
    s = objective.reading.student(batch.ids, batch.mask).data
    t = objective.reading.teacher.model(batch.ids, batch.mask).data
    wanted = np.mean(1 - (s * t).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1))
    value, _ = value_and_gradients(objective, batch, len(batch.ids))
    assert value == pytest.approx(wanted, rel=1e-12)
    assert objective.parts() == {"cosine": pytest.approx(wanted)}


def test_the_mse_loss_is_the_mean_square_of_the_difference():
    objective = embedding_objective("float64", loss="mse")
    batch = batch_of(texts_of(LENGTHS))
    s = objective.reading.student(batch.ids, batch.mask).data
    t = objective.reading.teacher.model(batch.ids, batch.mask).data
    value, _ = value_and_gradients(objective, batch, len(batch.ids))
    assert value == pytest.approx(((s - t) ** 2).mean(), rel=1e-12)


def test_a_pairwise_weight_adds_the_difference_of_the_similarity_matrices():
    plain = embedding_objective("float64")
    objective = embedding_objective("float64", pairwise=0.7)
    batch = batch_of(texts_of(LENGTHS))
    s = objective.reading.student(batch.ids, batch.mask).data
    t = objective.reading.teacher.model(batch.ids, batch.mask).data
    rows = [x @ x.T for x in (s, t)]
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]
    wanted = ((rows[0] - rows[1]) ** 2).sum() / len(s) ** 2
    value, _ = value_and_gradients(objective, batch, len(s))
    alone, _ = value_and_gradients(plain, batch, len(s))
    assert value == pytest.approx(alone + 0.7 * wanted, rel=1e-12)
    assert objective.parts()["pairwise"] == pytest.approx(wanted)


def test_a_student_that_is_its_teacher_costs_nothing():
    model, batch = encoder("embedding", dtype="float64"), batch_of(texts_of(LENGTHS))
    objective = EmbeddingDistillation(TextReading(model, LiveTextTeacher(model)), pairwise=1.0)
    value, gradients = value_and_gradients(objective, batch, 8)
    assert abs(value) < 1e-14
    assert max(np.abs(gradient).max() for gradient in gradients) < 1e-12


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_gradient_of_every_divergence_of_logits_is_that_of_central_differences(name):
    rng = np.random.default_rng(0)
    logits, expected = rng.normal(size=(2, 5, 4))
    labels, chosen = np.array([0, 3, 2, 2, 1]), Divergence(name, 1.5)

    def loss(x):
        return ops.logit_distillation(
            x, expected, labels, divergence=chosen, alpha=0.7, normalizer=5,
            parts=ops.DistillationParts(),
        )  # fmt: skip

    check_grads(loss, logits)


def test_forward_kl_of_logits_is_its_formula():
    rng = np.random.default_rng(1)
    logits, expected = rng.normal(size=(2, 6, 3))
    labels, temperature, alpha = np.array([0, 1, 2, 0, 1, 2]), 3.0, 0.4
    parts = ops.DistillationParts()
    found = ops.logit_distillation(
        Tensor(logits), expected, labels, divergence=Divergence(temperature=temperature),
        alpha=alpha, normalizer=6, parts=parts,
    )  # fmt: skip

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)

    p, q = softmax(expected / temperature), softmax(logits / temperature)
    kl = (p * np.log(p / q)).sum(1).mean()
    ce = -np.log(softmax(logits)[np.arange(6), labels]).mean()
    assert found.item() == pytest.approx(alpha * temperature**2 * kl + (1 - alpha) * ce)
    assert parts.divergence == pytest.approx(kl)
    assert parts.cross_entropy == pytest.approx(ce)
    assert parts.agreement == np.mean(logits.argmax(1) == expected.argmax(1))


@pytest.mark.parametrize("shape", [(5, 4), (6, 3)])
def test_logits_that_do_not_fit_are_refused(shape):
    with pytest.raises(ShapeError, match="logit_distillation"):
        ops.logit_distillation(
            Tensor(np.zeros((6, 4))), np.zeros(shape), np.zeros(6, np.int64),
            divergence=Divergence(), alpha=0.5, normalizer=6, parts=ops.DistillationParts(),
        )  # fmt: skip


def test_without_labels_the_teacher_alone_is_learned_from():
    objective = class_objective("float64", alpha=1.0)
    plain, labelled = (batch_of(texts_of(LENGTHS, labels=l)) for l in (None, LABELS))
    value, gradients = value_and_gradients(objective, plain, 8)
    assert "cross_entropy" not in objective.parts()
    again, others = value_and_gradients(objective, labelled, 8)
    assert again == value
    assert all(np.array_equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert objective.parts()["cross_entropy"] > 0


def test_labels_that_count_and_are_not_there_are_an_error():
    with pytest.raises(ConfigError, match="without labels"):
        value_and_gradients(class_objective(), batch_of(texts_of(LENGTHS)), 8)


def test_a_loss_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="no loss 'l1'"):
        embedding_objective(loss="l1")


# --- padding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_changes_nothing(name):
    texts = texts_of(LENGTHS, labels=LABELS)
    objective = OBJECTIVES[name]("float64")
    value, gradients = value_and_gradients(objective, batch_of(texts), 8)
    padded, others = value_and_gradients(objective, batch_of(texts, extra=5), 8)
    assert padded == pytest.approx(value, rel=1e-12)
    for found, wanted in zip(others, gradients, strict=True):
        assert difference(found[:20], wanted[:20]) < 1e-10


def test_a_decoder_classifies_the_last_id_that_is_no_padding():
    model = tiny_model("llama", head="sequence-classification", dtype="float64", pad_token_id=0)
    texts = texts_of(LENGTHS)
    found = model(*texts.padded(np.arange(8), 0)[:2]).data
    alone = [model(texts.padded(np.array([i]), 0)[0]).data[0] for i in range(8)]
    assert difference(found, np.array(alone)) < 1e-12


def test_types_of_pairs_are_read():
    texts = texts_of(LENGTHS, labels=LABELS, pairs=True)
    objective, batch = class_objective("float64"), batch_of(texts)
    value, _ = value_and_gradients(objective, batch, 8)
    plain = TextBatch(batch.ids, batch.mask, batch.row_ids, batch.labels)
    assert value != value_and_gradients(objective, plain, 8)[0]


# --- a teacher that is kept -------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_kept_of_a_teacher_does_not_depend_on_the_order_of_asking(order):
    texts = texts_of(np.random.default_rng(0).integers(3, 30, 100))
    model = encoder("embedding", seed=2)
    kept = KeptTextTeacher(model, texts, fill=0)
    found = np.empty((100, 24), np.float32)
    for rows in np.random.default_rng(1).permutation(100).reshape(20, 5)[::order]:
        found[rows] = kept.expected(batch_of(texts, rows))
    assert np.array_equal(found, KeptTextTeacher(model, texts, fill=0).of(np.arange(100)))
    live = LiveTextTeacher(model).expected(batch_of(texts))
    assert difference(found, live) < 1e-5


def test_layers_cannot_be_compared_with_a_teacher_that_is_kept():
    teacher = encoder("embedding", seed=2)
    kept = KeptTextTeacher(teacher, texts_of(LENGTHS), fill=0)
    with pytest.raises(ConfigError, match="hidden_mse compares layers"):
        embedding_objective(teacher=kept, terms=hidden)


# --- projections ------------------------------------------------------------------------------


@pytest.mark.parametrize(("wide", "own"), [(24, 12), (12, 24)])
def test_a_new_projection_keeps_similarities_as_far_as_its_rank_goes(wide, own):
    drawn = new_projection(wide, own, seed=3, dtype=np.dtype("float64")).data
    assert drawn.shape == (wide, own)
    product = drawn.T @ drawn if wide > own else drawn @ drawn.T
    assert difference(product, np.eye(12)) < 1e-12


def test_equal_widths_need_no_projection():
    with pytest.raises(ShapeError, match="need no projection"):
        new_projection(12, 12, seed=0, dtype=np.dtype("float32"))


# --- steps that are cut -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_does_not_depend_on_how_it_is_cut(name, dtype, tmp_path):
    texts = texts_of(LENGTHS, labels=LABELS)
    records, weights = [], []
    for batch_size, accumulation in ((8, 1), (4, 2), (1, 8)):
        objective = OBJECTIVES[name](dtype)
        model = getattr(objective, "model", None) or objective.reading.student
        batches = TextBatches(
            texts, batch_size=batch_size, accumulation=accumulation, seed=0, fill=0
        )
        folder = tmp_path / str(batch_size)
        settings = {"max_steps": 1, "gradient_accumulation": accumulation, "epsilon": 1.0}
        trainer = TrainingLoop(
            model, objective, batches, TrainingConfig.model_validate(settings), phase="p",
            metrics=MetricsLog(tmp_path / f"{batch_size}.jsonl"),
            store=CheckpointStore(folder, run_id="x"), checkpoint_every=9,
        )  # fmt: skip
        trainer.fit()
        records += trainer.metrics.records("p")
        weights.append(np.concatenate([p.data.reshape(-1) for p in model.parameters()]))
    bound = {"float32": 2e-6, "float64": 1e-12}[dtype]
    machine = {"seconds", "tokens_per_second", "memory_bytes"}
    for record in records[1:]:
        assert record.keys() == records[0].keys()
        for key in records[0].keys() - machine - {"phase", "step"}:
            # a divergence is a difference of entropies of up to log 3, and as exact as they are
            absolute = bound if key == "divergence" else 0.0
            close = pytest.approx(records[0][key], rel=bound, abs=absolute)
            assert record[key] == close, key
    assert all(difference(found, weights[0]) < bound for found in weights[1:])
