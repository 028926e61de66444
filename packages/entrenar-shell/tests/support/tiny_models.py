"""A teacher, a student and text, small enough for a distillation to take a second."""

from __future__ import annotations

import random
from pathlib import Path

from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe

__all__ = ["tiny_world"]

WORDS = [
    "the",
    "a",
    "red",
    "blue",
    "small",
    "old",
    "fox",
    "dog",
    "tree",
    "house",
    "runs",
    "sleeps",
    "sees",
    "likes",
    "under",
    "near",
]
SHAPE = {
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
SIZES = {
    "teacher": {"hidden_size": 32, "num_hidden_layers": 2},
    "student": {"hidden_size": 16, "num_hidden_layers": 1},
}


def tiny_world(folder: Path) -> Path:
    """Fill a folder with `teacher`, `student` and `text`, the same everywhere."""
    drawn = random.Random(7)
    texts = [" ".join(drawn.choices(WORDS, k=60)) + ".\n" for _ in range(12)]
    (folder / "text").mkdir()
    for number, text in enumerate(texts):
        (folder / "text" / f"{number:02}.txt").write_text(text)
    tokenizer = train_bpe(texts, 300)
    of_tokens = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
    for seed, (name, size) in enumerate(SIZES.items()):
        models.save(models.from_config({**SHAPE, **size, **of_tokens}, seed=seed), folder / name)
        tokenizer.save(folder / name)
    return folder
