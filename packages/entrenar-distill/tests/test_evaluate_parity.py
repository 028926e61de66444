"""`entrenar-distill evaluate` beside transformers and torch, in float64 on whole logits."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_distill.evaluate import evaluate

pytestmark = pytest.mark.parity

SEQ_LEN = 16


@pytest.fixture(scope="module")
def student(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "model"
    config = models.read_config(world / "teacher").to_hf()
    models.save(models.from_config(config, seed=2), folder)
    Tokenizer.load(world / "teacher").save(folder)
    return folder


def whole(folder, documents, eos):
    """Every document's logits by transformers in float64, and the tokens that came."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    logits, labels = [], []
    for i in range(len(documents)):
        text = np.concatenate([[eos], documents.document(i), [eos]])
        for start in range(0, len(text) - 1, SEQ_LEN):
            window = torch.from_numpy(text[start : start + SEQ_LEN + 1].astype(np.int64))
            with torch.no_grad():
                logits.append(model(window[None, :-1]).logits[0])
            labels.append(window[1:])
    return torch.cat(logits), torch.cat(labels)


def test_figures_are_those_of_torch(world, student):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    data = DatasetSpec((str(world / "text"),))
    tokenizer = Tokenizer.load(student)
    documents = tokenize(data, tokenizer)
    z, labels = whole(student, documents, tokenizer.eos_id)
    of_teacher, _ = whole(world / "teacher", documents, tokenizer.eos_id)
    report = evaluate([str(student)], teacher=str(world / "teacher"), data=data, seq_len=SEQ_LEN)
    found = report.text.models[1]
    loss = functional.cross_entropy(z, labels)
    log_q, log_p = functional.log_softmax(z, -1), functional.log_softmax(of_teacher, -1)
    kl = functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    assert found.tokens == len(labels)
    assert found.loss.value == pytest.approx(loss.item(), rel=1e-6)
    assert found.perplexity.value == pytest.approx(loss.exp().item(), rel=1e-5)
    assert found.kl.value == pytest.approx(kl.item(), rel=1e-4)
    assert found.accuracy.value == (z.argmax(-1) == labels).double().mean().item()
    top = (z.topk(5, dim=-1).indices == labels[:, None]).any(-1).double().mean()
    assert found.top5_accuracy.value == top.item()
    assert found.agreement.value == (z.argmax(-1) == of_teacher.argmax(-1)).double().mean().item()
    confidence, best = log_q.exp().max(-1)
    brier = ((confidence - (best == labels).double()) ** 2).mean()
    assert found.brier.value == pytest.approx(brier.item(), rel=1e-5)
