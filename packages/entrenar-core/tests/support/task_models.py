"""Models and data of the tasks that are not to go on with text, of toy size."""

import json
from types import SimpleNamespace

import numpy as np

from entrenar_core import models
from masked_text import masked_model, tokenizer
from text_cases import encoder, sentences, word_tokenizer

NAMES = ["calm", "loud", "old"]
COUNT = 40


def labelled(names):
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


def make_task_models(root):
    """Folders by name, and `rows.jsonl` with fields text, other, kind and score, `lines.txt` and
    `text/`."""
    made = {
        "teacher": encoder("sequence-classification", seed=1, **labelled(NAMES)),
        "student": encoder("sequence-classification", seed=2, **labelled(NAMES)),
        "reversed": encoder("sequence-classification", seed=3, **labelled(NAMES[::-1])),
        "others": encoder("sequence-classification", seed=2, **labelled(["x", "y", "z"])),
        "number": encoder("sequence-classification", seed=2, **labelled(["x"])),
        "big": encoder("embedding", seed=1),
        "same": encoder("embedding", seed=2),
        "small": encoder("embedding", seed=3, hidden_size=12),
    }
    for name, model in made.items():
        models.save(model, root / name)
        word_tokenizer().save(root / name)
    for name, kind, seed in (("masked", "bert", 1), ("hidden", "distilbert", 2)):
        models.save(masked_model(kind, seed=seed, dtype="float32"), root / name)
        tokenizer().save(root / name)
    rng, texts = np.random.default_rng(0), sentences(COUNT)
    rows = [
        {
            "text": text,
            "other": texts[i - 3],
            "kind": NAMES[rng.integers(3)],
            "score": round(float(rng.random() * 5), 1),
        }
        for i, text in enumerate(texts)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "lines.txt").write_text("\n".join(texts))
    (root / "text").mkdir()
    for i in range(24):
        words = " ".join(f"w{j}" for j in rng.integers(0, 56, 40))
        (root / "text" / f"{i:02d}.txt").write_text(words)
    return SimpleNamespace(root=root, rows=rows, texts=texts)
