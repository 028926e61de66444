"""The trainings and inferences that `memory.py` runs: models, and how they are used."""

from dataclasses import dataclass
from typing import Any

from entrenar_core.estimate.inference import Inference
from entrenar_core.models import reference_config

FLOATS = ("float32", "bfloat16")


def config_of(name: str, layers: int | None = None) -> dict[str, Any]:
    """The config of a published model, perhaps with fewer layers, so that many can be run."""
    raw = reference_config(name)
    if layers is not None:
        raw["n_layer" if raw["model_type"] == "gpt2" else "num_hidden_layers"] = layers
    return raw


MODELS: dict[str, dict[str, Any]] = {
    "smollm2-135m": config_of("smollm2-135m"),
    "llama-124m": config_of("llama-124m"),
    "gpt2": config_of("gpt2"),
    "qwen2.5-0.5b, 8 layers": config_of("qwen2.5-0.5b", 8),
    "qwen3-0.6b, 6 layers": config_of("qwen3-0.6b", 6),
    "tinyllama-1.1b, 4 layers": config_of("tinyllama-1.1b", 4),
    "bert-base": config_of("bert-base"),
}


@dataclass(frozen=True)
class Case:
    """One training; targets are what `LoraConfig` takes."""

    model: str
    method: str = "full"
    base: str = "float32"
    targets: tuple[str, ...] = ()
    rank: int = 0
    batch: int = 1
    accumulation: int = 1
    seq_len: int = 512
    checkpointing: bool = False
    optimizer: str = "adamw"


def full(model: str, batch: int, seq_len: int, **rest: Any) -> Case:
    """All weights are trained."""
    return Case(model, batch=batch, seq_len=seq_len, **rest)


def lora(model: str, rank: int, batch: int, seq_len: int, targets: str = "", **rest: Any) -> Case:
    """Adapters are trained: on all linear layers where `targets` says nothing else."""
    names = tuple(targets.split(",")) if targets else ("all-linear",)
    return Case(model, "lora", rank=rank, batch=batch, seq_len=seq_len, targets=names, **rest)


QV, QKVO = "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj"
SMOL, LLAMA, GPT2 = "smollm2-135m", "llama-124m", "gpt2"
QWEN2, QWEN3, TINY = "qwen2.5-0.5b, 8 layers", "qwen3-0.6b, 6 layers", "tinyllama-1.1b, 4 layers"

CASES = (
    full(SMOL, 1, 256),
    full(SMOL, 1, 512, checkpointing=True),
    full(SMOL, 2, 512, optimizer="adamw-8bit"),
    full(LLAMA, 1, 1024),
    full(LLAMA, 4, 256, accumulation=2),
    full(LLAMA, 8, 512, checkpointing=True),
    full(LLAMA, 2, 512, optimizer="sgd"),
    full(GPT2, 2, 256),
    full(GPT2, 2, 512),
    full(GPT2, 1, 1024, checkpointing=True, optimizer="lion"),
    full(QWEN2, 1, 512),
    full(QWEN2, 2, 512, checkpointing=True, optimizer="adamw-8bit"),
    full(QWEN3, 1, 512),
    full(TINY, 1, 512, checkpointing=True, optimizer="sgd-momentum"),
    lora(SMOL, 8, 1, 512),
    lora(SMOL, 64, 2, 512),
    lora(SMOL, 16, 8, 512, checkpointing=True),
    lora(LLAMA, 4, 4, 512, QV),
    lora(LLAMA, 16, 2, 1024),
    lora(LLAMA, 256, 2, 512, QKVO),
    lora(GPT2, 16, 2, 512),
    lora(GPT2, 64, 4, 512, "c_attn", checkpointing=True),
    lora(QWEN2, 16, 1, 512, base="bfloat16"),
    lora(QWEN2, 128, 2, 512, QKVO),
    lora(QWEN3, 32, 2, 512, accumulation=2),
    lora(QWEN3, 8, 4, 512, QV, checkpointing=True),
    lora(TINY, 64, 1, 1024, base="bfloat16"),
    lora(TINY, 16, 2, 512, optimizer="adamw-8bit"),
    lora(SMOL, 16, 2, 512, base="nf4"),
    lora(LLAMA, 8, 4, 512, QV, base="nf4"),
    lora(QWEN2, 64, 2, 512, base="nf4", checkpointing=True),
    lora(QWEN3, 16, 2, 512, base="int8"),
    lora(TINY, 16, 1, 1024, base="nf4"),
    lora(TINY, 4, 4, 512, QKVO, base="int8", checkpointing=True),
)
"""Those at even places are what constants are fitted on, the others what they are judged by."""

INFERENCES = (
    (SMOL, Inference("float32", 1, 512)),
    (SMOL, Inference("float32", 8, 512)),
    (LLAMA, Inference("float32", 32, 64)),
    (GPT2, Inference("float32", 4, 512)),
    (QWEN3, Inference("float32", 4, 256)),
    (TINY, Inference("bfloat16", 1, 1024)),
    (TINY, Inference("float32", 1, 64)),
    (TINY, Inference("nf4", 2, 512)),
    (TINY, Inference("int8", 2, 512)),
    ("bert-base", Inference("float32", 8, 512)),
)
"""Models that are run, all judged: nothing is fitted on them."""
