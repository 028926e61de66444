"""A distillation that takes less than a second, made on the spot: text, teacher, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokens import tokenize
from entrenar_core.io import files
from entrenar_core.optim import AdamW
from entrenar_core.rng import stream
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.trainer import Trainer

__all__ = ["CONFIG", "SECOND", "TEACHER", "TEXT", "make_toy", "shuffled_texts"]

CONFIG, TEXT, TEACHER, SECOND = "distill.yaml", "text", "teacher", "second-teacher"
"""What is in a toy's folder: its configuration, its documents, its teacher, and the same teacher
once more."""

_WORDS = ["the", "a", "red", "blue", "old", "fox", "dog", "cat", "runs", "sees", "finds", "and"]
_FOLLOWERS, _LENGTH, _DOCUMENTS = 3, 60, 24
_VOCABULARY, _ROWS, _STEPS, _RATE = 300, 16, 60, 2e-2
_SHAPE = {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 2 * _ROWS}

_YAML = f"""\
teacher:
  model_id: {{folder}}/{TEACHER}
student:
  config:
    hidden_size: 8
    intermediate_size: 16
    num_hidden_layers: 1
    num_attention_heads: 2
distillation: {{{{temperature: 1.0, alpha: 0.5}}}}
training: {{{{max_steps: 16, batch_size: 4, learning_rate: {_RATE}, warmup_steps: 2}}}}
dataset:
  name: {{folder}}/{TEXT}
  max_length: {_ROWS}
  held_out: 0.25
"""


@dataclass(frozen=True)
class _Grammar:
    """Which three words may follow each."""

    seed: int

    def document(self, number: int) -> str:
        """A walk from word to word, so there is something to learn."""
        size = len(_WORDS)
        followers = stream(self.seed, "toy grammar").integers(size, size=(size, _FOLLOWERS))
        drawn = stream(self.seed, "toy document", number)
        word, found = int(drawn.integers(size)), []
        for choice in drawn.integers(_FOLLOWERS, size=_LENGTH):
            found.append(_WORDS[word])
            word = int(followers[word, choice])
        return " ".join(found)


def make_toy(folder: Path, *, named: str | None = None, seed: int = 0) -> None:
    """Write a toy into `folder`, which the configuration calls `named` (the folder, if None).

    The teacher was trained on all documents, and has learned from what runs hold back too: the same
    for all runs.
    """
    texts = _texts(seed)
    _write_all(folder / TEXT, texts)
    tokenizer = train_bpe(texts, _VOCABULARY)
    model = _teacher(tokenizer, folder / TEXT, seed)
    for name in (TEACHER, SECOND):
        models.save(model, folder / name)
        tokenizer.save(folder / name)
    files.write_text(folder / CONFIG, _YAML.format(folder=named or folder))


def shuffled_texts(folder: Path, *, copies: int, seed: int = 0) -> tuple[Path, ...]:
    """Write the documents of a toy as often into folders of their own, named in a drawn order.

    The names decide what a run holds back and what it reads first, and nothing else: no folder is
    better than another, and two runs with the same seed on two of them differ by chance alone.
    """
    texts = _texts(seed)
    places = tuple(folder / f"{TEXT}-{copy + 1}" for copy in range(copies))
    for copy, place in enumerate(places):
        order = stream(seed, "toy names", copy).permutation(len(texts))
        _write_all(place, [texts[int(index)] for index in order])
    return places


def _texts(seed: int) -> list[str]:
    grammar = _Grammar(seed)
    return [grammar.document(number) for number in range(_DOCUMENTS)]


def _write_all(place: Path, texts: Sequence[str]) -> None:
    files.make_folder(place)
    for number, text in enumerate(texts):
        files.write_text(place / f"{number:02d}.txt", text)


def _teacher(tokenizer: Tokenizer, texts: Path, seed: int) -> Any:
    documents = tokenize(DatasetSpec(paths=(str(texts),)), tokenizer, use_cache=False)
    ids = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_id,
    }
    shape = {**_SHAPE, "hidden_size": 16, "intermediate_size": 32}
    model = models.from_config({**ids, **shape}, seed=seed)
    rows = Batches(
        documents, seq_len=_ROWS, batch_size=8, seed=seed, eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )  # fmt: skip
    asked = {"max_steps": _STEPS, "learning_rate": _RATE, "batch_size": 8}
    config = TrainingConfig.model_validate(asked)
    optimizer = AdamW(model.named_parameters())
    Trainer(model, optimizer, LanguageModelling(model), config=config).fit(rows)
    return model
