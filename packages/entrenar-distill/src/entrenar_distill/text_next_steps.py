"""What to do with a student that reads whole texts: commands that work as they stand."""

import importlib.util
import json
import sys

from entrenar_distill.masked_inputs import MaskedInputs
from entrenar_distill.next_steps import command, script
from entrenar_distill.reproduction import program
from entrenar_distill.run_folder import RunFolder
from entrenar_distill.text_inputs import TextInputs

__all__ = ["classification_commands", "embedding_commands", "masked_commands"]

_EMBED = """
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
folder = {folder}
model, tokenizer = models.load(folder, head="embedding"), Tokenizer.load(folder)
vectors = models.embed(model, tokenizer, {texts})
print(vectors.shape, vectors[0] @ vectors[1])"""

_SENTENCE_TRANSFORMERS = """
from sentence_transformers import SentenceTransformer
vectors = SentenceTransformer({folder}).encode({texts})
print(vectors.shape, vectors[0] @ vectors[1])"""

_CLASSIFY = """
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
folder = {folder}
model, tokenizer = models.load(folder, head="sequence-classification"), Tokenizer.load(folder)
print(model(tokenizer.encode({text})[None]).numpy())"""

_TRANSFORMERS = """
from transformers import pipeline
print(pipeline("text-classification", {folder})({text}))"""

_FILL = """
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
folder = {folder}
model, tokenizer = models.load(folder, head="masked-lm"), Tokenizer.load(folder)
ids = tokenizer.encode({text})
logits = model(ids[None]).numpy()[0, ids == tokenizer.mask_id, : tokenizer.vocab_size]
print([tokenizer.decode([number]) for number in logits[0].argsort()[:-6:-1]])"""

_FILL_TRANSFORMERS = """
from transformers import pipeline
print([found["token_str"] for found in pipeline("fill-mask", {folder})({text})])"""

_TEXTS = ("Return the length of the list.", "How many elements there are.")


def embedding_commands(folder: RunFolder, inputs: TextInputs) -> tuple[str, ...]:
    """Shell commands for an embedding model, each with a comment line above it."""
    # JSON's strings are Python's too, and double quotes are the ones that a shell leaves alone
    words = {
        "folder": json.dumps(str(folder.path.absolute())),
        "texts": json.dumps(list(_TEXTS)),
    }
    del inputs
    python = sys.executable
    found = [script("embed texts with the student", python, _EMBED.format(**words))]
    if importlib.util.find_spec("sentence_transformers") is not None:
        code = _SENTENCE_TRANSFORMERS.format(**words)
        found.append(script("the same with sentence-transformers", python, code))
    return tuple(found)


def classification_commands(
    folder: RunFolder, inputs: TextInputs, *, whole: bool
) -> tuple[str, ...]:
    """Shell commands for a classifier, each with a comment line above it."""
    python = sys.executable
    found: list[str] = []
    config = inputs.config
    run = [program(), "run", "--config", str(folder.config)]
    if not config.control and config.dataset.label_field is not None:
        adding = ["--output", str(folder.path), "--control", "--resume", "auto"]
        found.append(command("find out whether the teacher helped", [*run, *adding]))
    if whole:
        words = {
            "folder": json.dumps(str(folder.path.absolute())),
            "text": json.dumps(_TEXTS[0]),
        }
        found.append(script("let the student classify", python, _CLASSIFY.format(**words)))
        if importlib.util.find_spec("transformers") is not None:
            code = _TRANSFORMERS.format(**words)
            found.append(script("the same with transformers", python, code))
    return tuple(found)


def masked_commands(folder: RunFolder, inputs: MaskedInputs, *, whole: bool) -> tuple[str, ...]:
    """Shell commands for a masked language model, each with a comment line above it."""
    tool, python = program(), sys.executable
    found: list[str] = []
    if not inputs.config.control:
        run = [tool, "run", "--config", str(folder.config), "--output", str(folder.path)]
        words = [*run, "--control", "--resume", "auto"]
        found.append(command("find out whether the teacher helped", words))
    if whole:
        first, *others = _TEXTS[0].split()
        mask = inputs.tokenizer.decode([inputs.tokens.mask])
        given = {
            "folder": json.dumps(str(folder.path.absolute())),
            "text": json.dumps(" ".join([first, mask, *others[1:]])),
        }
        found.append(script("let the student fill in a word", python, _FILL.format(**given)))
        if importlib.util.find_spec("transformers") is not None:
            code = _FILL_TRANSFORMERS.format(**given)
            found.append(script("the same with transformers", python, code))
    return tuple(found)
