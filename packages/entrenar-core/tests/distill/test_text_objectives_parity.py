"""Objectives about whole texts against transformers' models and PyTorch's autograd, in float64."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.text_batches import TextBatch
from entrenar_core.distill import (
    ClassificationDistillation,
    Divergence,
    EmbeddingDistillation,
    LiveTextTeacher,
    TextReading,
    new_projection,
)
from entrenar_core.testing import difference
from text_cases import encoder, texts_of

pytestmark = pytest.mark.parity

LENGTHS, LABELS = [4, 9, 6, 12, 3, 7], np.array([0, 2, 1, 1, 0, 2])
CLASSES = {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
STEP_ROWS = 10


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def pair(tmp_path):
    """Student and teacher of a head, here and in transformers, all in float64."""
    transformers = pytest.importorskip("transformers")

    def both(head, kind, **student):
        ours, theirs = [], []
        for name, seed, shape in (("s", 1, {"num_hidden_layers": 1, **student}), ("t", 2, {})):
            classes = {} if head == "embedding" else CLASSES
            models.save(encoder(head, seed=seed, **classes, **shape), tmp_path / name)
            ours.append(models.load(tmp_path / name, head=head, dtype="float64"))
            model = kind(transformers).from_pretrained(tmp_path / name, attn_implementation="eager")
            theirs.append(model.double().eval())
        return ours, theirs

    return both


def batch_of(*, labels=None):
    texts = texts_of(LENGTHS, labels=labels, pairs=True)
    rows = np.arange(len(texts))
    ids, mask, types = texts.padded(rows, 0)
    return TextBatch(ids, mask, rows, texts.labels, types)


def inputs_of(torch, batch):
    return {
        "input_ids": torch.tensor(batch.ids),
        "attention_mask": torch.tensor(batch.mask.astype(np.int64)),
        "token_type_ids": torch.tensor(batch.types),
    }


def pooled(torch, model, inputs):
    states = model(**inputs).last_hidden_state
    weights = inputs["attention_mask"].unsqueeze(-1).double()
    return (states * weights).sum(1) / weights.sum(1)


def check_gradients(ours, theirs):
    """As one vector: the gradient of a bias of keys is 0 but for rounding."""
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    found = {n: p.grad for n, p in ours.named_parameters().items() if n in wanted}
    assert len(found) == len(wanted) > 15
    one, other = (
        np.concatenate([np.asarray(grads[name]).reshape(-1) for name in wanted])
        for grads in (found, wanted)
    )
    assert difference(one, other) < 1e-10


@pytest.mark.parametrize("width", [24, 12])
@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_learning_embeddings_is_what_torch_computes(torch, pair, loss, width):
    (student, teacher), (torch_student, torch_teacher) = pair(
        "embedding", lambda t: t.BertModel, hidden_size=width
    )
    projection = None
    if width != 24:
        projection = new_projection(24, width, seed=0, dtype=np.dtype("float64"))
    objective = EmbeddingDistillation(
        TextReading(student, LiveTextTeacher(teacher)), loss=loss, projection=projection
    )
    batch = batch_of()
    objective.begin(0, [batch])
    found = objective.loss(batch, STEP_ROWS)
    found.backward()
    inputs = inputs_of(torch, batch)
    s = pooled(torch, torch_student, inputs)
    with torch.no_grad():
        t = pooled(torch, torch_teacher, inputs)
    w = None if projection is None else torch.tensor(projection.data, requires_grad=True)
    s = s if w is None else s @ w.T
    if loss == "cosine":
        wanted = (1 - torch.nn.functional.cosine_similarity(s, t)).sum() / STEP_ROWS
    else:
        wanted = torch.nn.functional.mse_loss(s, t, reduction="sum") / 24 / STEP_ROWS
    wanted.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-10)
    check_gradients(student, torch_student)
    if w is not None:
        assert difference(projection.grad, w.grad.numpy()) < 1e-8


def test_learning_classes_is_what_torch_computes(torch, pair):
    (student, teacher), (torch_student, torch_teacher) = pair(
        "sequence-classification", lambda t: t.BertForSequenceClassification
    )
    temperature, alpha = 2.0, 0.3
    objective = ClassificationDistillation(
        TextReading(student, LiveTextTeacher(teacher)),
        divergence=Divergence(temperature=temperature),
        alpha=alpha,
    )
    batch = batch_of(labels=LABELS)
    objective.begin(0, [batch])
    found = objective.loss(batch, STEP_ROWS)
    found.backward()
    inputs = inputs_of(torch, batch)
    logits = torch_student(**inputs).logits
    with torch.no_grad():
        expected = torch_teacher(**inputs).logits
    kl = torch.nn.functional.kl_div(
        torch.log_softmax(logits / temperature, -1),
        torch.log_softmax(expected / temperature, -1),
        log_target=True,
        reduction="sum",
    )
    ce = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS), reduction="sum")
    wanted = (alpha * temperature**2 * kl + (1 - alpha) * ce) / STEP_ROWS
    wanted.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-10)
    check_gradients(student, torch_student)
