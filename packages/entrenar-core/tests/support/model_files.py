"""Small models with tokenizers in folders, of every family that goes to GGUF."""

from pathlib import Path
from typing import Any

import numpy as np

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer, train_bpe

ROWS = 300
SMALL: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
ENCODER: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 66,
}  # fmt: skip
DISTILBERT = {"dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4}
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 2048,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
    "attention_factor": 1.3,
}  # fmt: skip

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "llama, tied": SMALL | {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "llama, biases": SMALL | {"attention_bias": True, "mlp_bias": True, "head_dim": 32},
    "llama, llama3 rope": SMALL | {"rope_scaling": LLAMA3_ROPE, "head_dim": 32},
    "llama, yarn": SMALL | {"rope_scaling": YARN},
    "llama, linear rope": SMALL | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "mistral": SMALL | {"model_type": "mistral", "sliding_window": None},
    "qwen2": SMALL | {"model_type": "qwen2"},
    "qwen3": SMALL | {"model_type": "qwen3", "head_dim": 32, "attention_bias": False},
    "gpt2": {
        "model_type": "gpt2", "vocab_size": ROWS, "n_embd": 64, "n_layer": 2, "n_head": 4,
        "n_positions": 128, "n_inner": 96,
    },
}  # fmt: skip
"""Language models by name: keys of their configs."""

ENCODERS: dict[str, dict[str, Any]] = {
    "bert": ENCODER | {"model_type": "bert", "architectures": ["BertModel"]},
    "roberta": ENCODER | {"model_type": "roberta", "architectures": ["RobertaModel"]},
    "distilbert": DISTILBERT
    | {"model_type": "distilbert", "vocab_size": ROWS, "architectures": ["DistilBertModel"],
       "max_position_embeddings": 66},
}  # fmt: skip


def bpe() -> Tokenizer:
    """A byte-level tokenizer of 290 tokens."""
    return train_bpe(["the cat and the dog sat on the other mat"] * 5, 290)


def write_model(folder: Path, config: dict[str, Any]) -> Path:
    """A model with random weights, biases and norms, and its tokenizer, in `folder`."""
    model = models.from_config(config, seed=1)
    rng = np.random.default_rng(2)
    for parameter in model.parameters():
        shape = parameter.shape
        noise = rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        parameter.data = parameter.data + noise if len(shape) == 1 else noise
    models.save(model, folder)
    bpe().save(folder)
    return folder
