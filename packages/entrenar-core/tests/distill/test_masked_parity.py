"""Masked distillation beside transformers and torch: the loss and the gradient of every weight."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.masking import MaskedRows, MaskTokens
from entrenar_core.distill import Distillation, Divergence, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import LayerPair, hidden_term
from entrenar_core.models.reading import MASKED
from entrenar_core.testing import difference
from entrenar_core.train.objective import LanguageModelling
from masked_text import SHAPES, VOCABULARY, documents, masked_config, tokenizer

pytestmark = pytest.mark.parity

CLASSES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}
TEACHERS = {
    "tied": {},
    "untied, padded vocabulary": {"tie_word_embeddings": False, "vocab_size": VOCABULARY + 3},
}
LENGTHS = (18, 3, 11, 7)
T, ALPHA = 2.0, 0.6


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def pair(torch, transformers, tmp_path):
    """A model of transformers in which every parameter matters, and ours of the same weights."""

    def make(kind, seed, dtype, **changes):
        config = masked_config(kind, **changes)
        del config["model_type"]
        torch.manual_seed(seed)
        settings = getattr(transformers, f"{CLASSES[kind]}Config")(**config)
        settings._attn_implementation = "eager"
        their = getattr(transformers, f"{CLASSES[kind]}ForMaskedLM")(settings).eval()
        with torch.no_grad():
            for name, parameter in their.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
                elif parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5)
        their.save_pretrained(tmp_path / str(seed))
        ours = models.load(tmp_path / str(seed), head="masked-lm", dtype=dtype)
        return their.to(getattr(torch, dtype)), ours

    return make


@pytest.fixture(scope="module")
def batch():
    tokens = MaskTokens.of(tokenizer())
    rows = MaskedRows(documents(*LENGTHS), seq_len=22, tokens=tokens, share=0.3)
    found = rows.gather(np.arange(len(LENGTHS)), seed=0, purpose="test")
    assert not found.mask.all()
    return found


def inputs(torch, batch):
    return {
        "input_ids": torch.from_numpy(batch.ids),
        "attention_mask": torch.from_numpy(batch.mask.astype(np.int64)),
    }


def mixture(torch, student, teacher, batch):
    """α·T²·KL + (1 − α)·CE, the means over the positions with a label."""
    labels = torch.from_numpy(batch.labels)
    chosen = labels >= 0
    logits = student(**inputs(torch, batch)).logits[chosen]
    with torch.no_grad():
        expected = teacher(**inputs(torch, batch)).logits[chosen]
    log_q = torch.log_softmax(logits[:, :VOCABULARY] / T, dim=-1)
    p = torch.softmax(expected[:, :VOCABULARY] / T, dim=-1)
    apart = torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
    plain = torch.nn.functional.cross_entropy(logits, labels[chosen])
    return ALPHA * T**2 * apart + (1 - ALPHA) * plain


def assert_same(loss, mine, their, ours, dtype, record_property):
    loss.backward()
    mine.backward()
    # an untied head of transformers has a bias that it does not use
    wanted = {n: p.grad.numpy() for n, p in their.named_parameters() if p.grad is not None}
    found = {n: p.grad for n, p in ours.named_parameters().items()}
    assert found.keys() == wanted.keys()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5 if dtype == "float32" else 1e-12)
    # the keys' biases change nothing, so their gradients are rounding errors alone
    silent = [n for n in wanted if n.endswith(("key.bias", "k_lin.bias"))]
    bound = 1e-4 if dtype == "float32" else 1e-11
    error = max(difference(found[n], wanted[n]) for n in wanted if n not in silent)
    record_property("error", error)
    assert error <= bound
    largest = max(np.abs(g).max() for g in wanted.values())
    assert max(np.abs(found[n] - wanted[n]).max() for n in silent) <= bound * largest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("change", TEACHERS)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_distillation_has_torchs_loss_and_gradients(
    kind, change, dtype, pair, batch, torch, record_property
):
    their, ours = pair(kind, 0, dtype)
    their_teacher, teacher = pair(kind, 1, dtype, **TEACHERS[change])
    objective = Distillation(
        ours, LiveTeacher(teacher, shared=VOCABULARY, reading=MASKED),
        divergence=Divergence(temperature=T), alpha=ALPHA, reading=MASKED,
    )  # fmt: skip
    loss = mixture(torch, their, their_teacher, batch)
    mine = objective.loss(batch, batch.targets)
    assert_same(loss, mine, their, ours, dtype, record_property)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_control_has_transformers_loss_and_gradients(
    kind, tied, dtype, pair, batch, torch, record_property
):
    their, ours = pair(kind, 0, dtype, tie_word_embeddings=tied)
    loss = their(**inputs(torch, batch), labels=torch.from_numpy(batch.labels)).loss
    mine = LanguageModelling(ours, reading=MASKED).loss(batch, batch.targets)
    assert_same(loss, mine, their, ours, dtype, record_property)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_with_a_cosine_term_it_is_the_objective_of_distilbert(
    dtype, pair, batch, torch, record_property
):
    their, ours = pair("distilbert", 0, dtype)
    their_teacher, teacher = pair("bert", 1, dtype)
    live = LiveTeacher(teacher, shared=VOCABULARY, reading=MASKED)
    logits = Distillation(
        ours, live, divergence=Divergence(temperature=T), alpha=ALPHA, reading=MASKED
    )
    last = [LayerPair(1, 1)]
    term = hidden_term(
        "cosine", ours, teacher, loss="cosine", pairs=last, weight=0.3, learned=False
    )
    objective = FeatureDistillation(logits, live, [term])
    objective.begin(0, [batch])
    mine = objective.loss(batch, batch.targets)

    mask = torch.from_numpy(batch.mask)
    states = their(**inputs(torch, batch), output_hidden_states=True).hidden_states[-1][mask]
    with torch.no_grad():
        expected = their_teacher(**inputs(torch, batch), output_hidden_states=True)
    same = torch.ones(len(states), dtype=states.dtype)
    cosine = torch.nn.functional.cosine_embedding_loss(
        states, expected.hidden_states[-1][mask], same
    )
    loss = mixture(torch, their, their_teacher, batch) + 0.3 * cosine
    assert_same(loss, mine, their, ours, dtype, record_property)
