"""What a run writes is a folder that transformers loads, with the same logits and the same text."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_distill import pipeline
from entrenar_distill.config import resolve

pytestmark = pytest.mark.parity

PROMPT = "the red fox sees the old"


@pytest.fixture(scope="module")
def student(make_config, tmp_path_factory):
    """The output folder of a run whose student is tied and has grouped queries."""
    folder = tmp_path_factory.mktemp("export")
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    pipeline.run(resolve(make_config(folder, student={"config": shape})))
    return folder / "out"


@pytest.fixture(scope="module")
def theirs(student):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(student)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(student)


def test_the_tokenizer_gives_the_same_ids_and_text(student, theirs):
    ours, (_, tokenizer) = Tokenizer.load(student), theirs
    ids = ours.encode(PROMPT)
    assert tokenizer(PROMPT)["input_ids"] == ids.tolist()
    assert tokenizer.decode(ids) == ours.decode(ids) == PROMPT
    assert tokenizer.eos_token_id == ours.eos_id


def test_the_logits_are_the_same(student, theirs):
    torch = pytest.importorskip("torch")
    ids = Tokenizer.load(student).encode(PROMPT).astype(np.int64)[None, :]
    with torch.no_grad():
        expected = theirs[0](torch.from_numpy(ids)).logits.numpy()
    found = models.load(student)(ids).numpy()
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_the_greedy_continuation_is_the_same(student, theirs):
    torch = pytest.importorskip("torch")
    ids = Tokenizer.load(student).encode(PROMPT).astype(np.int64)
    expected = theirs[0].generate(
        torch.from_numpy(ids[None, :]), max_new_tokens=12, do_sample=False
    )[0]
    eos = Tokenizer.load(student).eos_id
    found = models.generate(models.load(student), ids, max_new_tokens=12, eos_ids=eos)
    assert found.tolist() == expected.tolist()
