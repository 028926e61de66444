"""`entrenar-distill evaluate` of tasks beside transformers in float64, torch and scipy."""

import numpy as np
import pytest

from entrenar_core.data.masking import MaskedRows, MaskTokens
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_distill.evaluate_classes import evaluate_classes
from entrenar_distill.evaluate_embeddings import evaluate_embeddings
from entrenar_distill.evaluate_masked import evaluate_masked
from task_models import NAMES, make_task_models

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_task_models(tmp_path_factory.mktemp("tasks"))


def batch_of(place, texts, pairs=None):
    """Texts as transformers reads them."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(place.root / "teacher" / "tokenizer.json"), pad_token="[PAD]"
    )
    return tokenizer(
        texts, pairs, padding=True, truncation=True, max_length=32, return_tensors="pt",
        return_token_type_ids=True,
    )  # fmt: skip


def macro_f1(answers, labels):
    """By the matrix of confusion."""
    matrix = np.histogram2d(labels, answers, bins=np.arange(len(NAMES) + 1))[0]
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    return (2 * np.diag(matrix) / both)[both > 0].mean()


def calibration_error(confidence, hits):
    """By cutting the texts, in the order of their confidence, at the edges of the bins."""
    order = np.argsort(confidence)
    cuts = np.searchsorted(confidence[order], np.arange(1, 15) / 15, side="right")
    parts = np.split((hits - confidence)[order], cuts)
    return sum(abs(part.sum()) for part in parts) / len(hits)


@pytest.mark.parametrize("pair", [None, "other"])
def test_figures_of_classes_are_those_of_transformers_logits(place, pair):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    batch = batch_of(place, place.texts, pair and [row[pair] for row in place.rows])
    labels = torch.tensor([NAMES.index(row["kind"]) for row in place.rows])
    log = {}
    for name in ("teacher", "student"):
        kind = transformers.AutoModelForSequenceClassification
        model = kind.from_pretrained(place.root / name, dtype=torch.float64).eval()
        with torch.no_grad():
            log[name] = torch.log_softmax(model(**batch).logits, dim=-1)
    found = evaluate_classes(
        [str(place.root / "student")], teacher=str(place.root / "teacher"), label_field="kind",
        pair_field=pair, data=DatasetSpec((str(place.root / "rows.jsonl"),)),
    ).models[1].figures  # fmt: skip
    confidence, answers = log["student"].exp().max(dim=-1)
    hits = (answers == labels).double()
    nll = torch.nn.functional.nll_loss(log["student"], labels).item()
    assert found["loss"].value == pytest.approx(nll, rel=1e-6)
    assert found["accuracy"].value == pytest.approx(hits.mean().item())
    assert found["macro_f1"].value == pytest.approx(macro_f1(answers.numpy(), labels.numpy()))
    error = calibration_error(confidence.numpy(), hits.numpy())
    assert found["ece"].value == pytest.approx(error, rel=1e-4)
    kl = torch.nn.functional.kl_div(
        log["student"], log["teacher"], reduction="batchmean", log_target=True
    )
    assert found["kl"].value == pytest.approx(kl.item(), rel=1e-4)
    same = (answers == log["teacher"].argmax(dim=-1)).double().mean()
    assert found["agreement"].value == pytest.approx(same.item())


def test_figures_of_hidden_tokens_are_those_of_transformers_logits(place):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    data = DatasetSpec((str(place.root / "text"),))
    tokenizer = Tokenizer.load(place.root / "masked")
    documents = tokenize(data, tokenizer)
    rows = MaskedRows(documents, seq_len=16, tokens=MaskTokens.of(tokenizer), share=0.2)
    log, labels = {"masked": [], "hidden": []}, []
    for name, parts in log.items():
        kind = transformers.AutoModelForMaskedLM
        model = kind.from_pretrained(place.root / name, dtype=torch.float64).eval()
        for batch in rows.in_order(9, seed=4):
            with torch.no_grad():
                logits = model(
                    input_ids=torch.tensor(batch.ids),
                    attention_mask=torch.tensor(batch.mask.astype(np.int64)),
                ).logits
            chosen = torch.tensor(batch.labels >= 0)
            parts.append(torch.log_softmax(logits[chosen], dim=-1))
            if name == "masked":
                labels.append(torch.tensor(batch.labels)[chosen])
    log, labels = {name: torch.cat(parts) for name, parts in log.items()}, torch.cat(labels)
    found = evaluate_masked(
        [str(place.root / "hidden")], teacher=str(place.root / "masked"), data=data, seq_len=16,
        share=0.2, seed=4,
    ).models[1].figures  # fmt: skip
    nll = torch.nn.functional.nll_loss(log["hidden"], labels)
    assert found["loss"].value == pytest.approx(nll.item(), rel=1e-5)
    assert found["pseudo_perplexity"].value == pytest.approx(nll.exp().item(), rel=1e-4)
    answers = log["hidden"].argmax(dim=-1)
    assert found["accuracy"].value == pytest.approx((answers == labels).double().mean().item())
    kl = torch.nn.functional.kl_div(
        log["hidden"], log["masked"], reduction="batchmean", log_target=True
    )
    assert found["kl"].value == pytest.approx(kl.item(), rel=1e-4)
    same = (answers == log["masked"].argmax(dim=-1)).double().mean()
    assert found["agreement"].value == pytest.approx(same.item())


def test_scores_of_pairs_are_correlated_as_scipy_says_of_transformers_vectors(place):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    stats = pytest.importorskip("scipy.stats")
    vectors = {}
    for name in ("big", "same"):
        model = transformers.AutoModel.from_pretrained(
            place.root / name, dtype=torch.float64, add_pooling_layer=False
        ).eval()
        for field in ("text", "other"):
            batch = batch_of(place, [row[field] for row in place.rows])
            with torch.no_grad():
                states = model(**batch).last_hidden_state
            weights = batch["attention_mask"].unsqueeze(-1).double()
            vectors[name, field] = ((states * weights).sum(1) / weights.sum(1)).numpy()
    scores = [row["score"] for row in place.rows]

    def cosines(x, y):
        return [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(x, y, strict=True)]

    alike = cosines(vectors["same", "text"], vectors["same", "other"])
    found = evaluate_embeddings(
        [str(place.root / "same")], teacher=str(place.root / "big"), pair_field="other",
        score_field="score", data=DatasetSpec((str(place.root / "rows.jsonl"),)),
    ).models[1].figures  # fmt: skip
    assert found["pearson"].value == pytest.approx(
        stats.pearsonr(alike, scores).statistic, rel=1e-4
    )
    assert found["spearman"].value == pytest.approx(
        stats.spearmanr(alike, scores).statistic, rel=1e-9
    )
    near = [cosines(vectors["same", field], vectors["big", field]) for field in ("text", "other")]
    assert found["cosine"].value == pytest.approx(np.mean(near), rel=1e-5)
