"""Two adapters on one frozen model, switched and added up: python adapters.py"""

import numpy as np

from entrenar_core import lora, models, no_grad
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.optim import AdamW
from entrenar_core.train import LanguageModelling, Trainer, TrainingConfig

SHAPE = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 32, "eos_token_id": 0,
}  # fmt: skip
RULES = {"up": 1, "down": -1}
"""What each adapter learns: the next token is the last one plus this."""


def counting(step: int) -> Batches:
    """Documents that count up or down from a random token, around a circle of 31."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 31, 64)[:, None]
    ids = (1 + (starts + step * np.arange(24)) % 31).astype(np.int32)
    docs = TokenizedDocuments.from_arrays([f"{i}" for i in range(64)], list(ids), [24] * 64)
    return Batches(docs, seq_len=16, batch_size=16, seed=0, eos_id=0)


model = models.from_config(SHAPE, seed=0)
for name, step in RULES.items():
    lora.adapt(model, lora.LoraConfig(rank=8, alpha=16), name=name)
    lora.activate(model, name)
    trained = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
    trainer = Trainer(
        model,
        AdamW(trained),
        LanguageModelling(model),
        config=TrainingConfig(max_steps=150, learning_rate=2e-2, warmup_steps=10),
    )
    trainer.fit(counting(step))

for active in (("up",), ("down",), ()):
    with no_grad():
        if active:
            lora.activate(model, *active)
            logits = model(np.array([[5, 5 + RULES[active[0]]]])).data
        else:
            with lora.disabled(model):
                logits = model(np.array([[5, 6]])).data
    print(f"{' + '.join(active) or 'no adapter':10} says {logits[0, -1].argmax()} next")
