"""Small adapters as PEFT writes them, without PEFT."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_core.io.safetensors import write_file

PREFIX = "base_model.model."
Q, K, DOWN = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.k_proj",
    "model.layers.1.mlp.down_proj",
)
SHAPES = {Q: (64, 64), K: (32, 64), DOWN: (64, 96)}
"""Modules of the small LLaMA of `model_files`, with the shapes of their weights."""

CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 6.0, "bias": "none",
    "target_modules": ["q_proj", "k_proj", "down_proj"],
}  # fmt: skip


def factors(
    shapes: dict[str, tuple[int, int]] = SHAPES, *, rank: int = 4, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random A and B for weights (out, in), by PEFT's names."""
    rng, found = np.random.default_rng(seed), {}
    for module, (outputs, inputs) in shapes.items():
        a, b = rng.standard_normal((rank, inputs)), rng.standard_normal((outputs, rank))
        found[f"{PREFIX}{module}.lora_A.weight"] = a.astype(np.float32)
        found[f"{PREFIX}{module}.lora_B.weight"] = b.astype(np.float32)
    return found


def write_peft(folder: Path, tensors: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A folder with an adapter of `tensors`, whose config has `config` besides CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "adapter_model.safetensors", factors() if tensors is None else tensors)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


def dense(tensors: dict[str, np.ndarray], module: str, scale: float) -> np.ndarray:
    """s·B·A of a module, float64."""
    a, b = (tensors[f"{PREFIX}{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
    return scale * (b @ a)
