"""What `make demo` made, run by llama.cpp."""

from pathlib import Path

import numpy as np
import pytest

from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.convert.export import export
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_distill.config import resolve
from entrenar_distill.inputs import read_inputs
from llama_run import LlamaModel, agrees, nats
from llama_vocab import LlamaVocab
from varied_strings import STRINGS

pytestmark = pytest.mark.conformance

ROOT = Path(__file__).parents[3]
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m")
WINDOW, WINDOWS = 128, 60
PROMPTS, NEW = 20, 64


@pytest.fixture(scope="module")
def student():
    """The folder of the demo's student; `make conformance` makes it."""
    pytest.importorskip("llama_cpp")
    folder = ROOT / "demo" / "student"
    assert (folder / "distill.yaml").is_file(), "run make demo"
    return folder


@pytest.fixture(scope="module")
def windows(student):
    """Ids (WINDOWS, WINDOW) of documents that the student was not trained on."""
    config = resolve(student / "distill.yaml", teacher=str(ROOT / "demo" / "teacher"))
    documents = read_inputs(config, progress=NullProgress()).held_out
    found = np.concatenate([documents.document(i) for i in range(len(documents))])
    return found[: WINDOWS * WINDOW].reshape(WINDOWS, WINDOW).astype(np.int64)


@pytest.fixture(scope="module")
def written(student, tmp_path_factory):
    """The GGUF file of each type."""
    folder = tmp_path_factory.mktemp("demo")
    for name in TYPES:
        export(student, folder / f"{name}.gguf", form="gguf", quantization=name)
    return folder


@pytest.mark.parametrize("name", TYPES)
def test_llama_cpp_has_our_perplexity_on_held_out_text(written, windows, name):
    path = written / f"{name}.gguf"
    with no_grad():
        logits = models.load(path)(windows).numpy().astype(np.float64)
    ours = sum(nats(rows, ids) for rows, ids in zip(logits, windows, strict=True))
    with LlamaModel(path) as model:
        assert model.warnings == []
        theirs = sum(nats(model.logits(ids).astype(np.float64), ids) for ids in windows)
    count = windows.size - len(windows)
    assert np.exp(theirs / count) == pytest.approx(np.exp(ours / count), rel=0.01)


def test_greedy_continuations_are_ours(written, student, windows):
    model = models.load(student)
    with LlamaModel(written / "f32.gguf") as theirs:
        for ids in windows[:PROMPTS]:
            prompt = ids[:24]
            assert agrees(model, prompt, np.array(theirs.continued(prompt, NEW)))


def test_llama_cpp_reads_the_ids_of_the_demos_tokenizer(written, student):
    tokenizer = Tokenizer.load(student)
    theirs = LlamaVocab(written / "f32.gguf")
    try:
        assert theirs.warnings == []
        for text in STRINGS:
            assert theirs.encode(text, specials=True) == tokenizer.encode(text).tolist()
    finally:
        theirs.close()
