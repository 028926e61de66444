"""mergekit beside ours: models as it reads them, and what it plans."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml

from merge_models import Toy

WIDTH, ROWS, LAYERS = 8, 12, 6


def kit():
    """What is used of mergekit."""
    from mergekit.architecture import get_architecture_info
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import _model_out_config
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner

    return SimpleNamespace(
        architecture=get_architecture_info, config=MergeConfiguration, cache=LoaderCache,
        out_config=_model_out_config, options=MergeOptions, planner=MergePlanner,
    )  # fmt: skip


LLAMA = {
    "input_layernorm.weight": (WIDTH,),
    "self_attn.q_proj.weight": (WIDTH, WIDTH),
    "self_attn.k_proj.weight": (WIDTH, WIDTH),
    "self_attn.v_proj.weight": (WIDTH, WIDTH),
    "self_attn.o_proj.weight": (WIDTH, WIDTH),
    "post_attention_layernorm.weight": (WIDTH,),
    "mlp.up_proj.weight": (16, WIDTH),
    "mlp.gate_proj.weight": (16, WIDTH),
    "mlp.down_proj.weight": (WIDTH, 16),
}


def llama(*, tied=False):
    shapes = {"model.embed_tokens.weight": (ROWS, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.{part}": shape for part, shape in LLAMA.items()}
    shapes["model.norm.weight"] = (WIDTH,)
    if tied:
        return Toy(shapes, LAYERS, tied={"lm_head.weight": "model.embed_tokens.weight"})
    return Toy(shapes | {"lm_head.weight": (ROWS, WIDTH)}, LAYERS)


ENCODER_LAYER = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
    "output.LayerNorm",
)  # fmt: skip


def bert():
    both = ("weight", "bias")
    names = [f"embeddings.{what}_embeddings.weight" for what in ("word", "position", "token_type")]
    names += [f"embeddings.LayerNorm.{one}" for one in both]
    for layer in range(LAYERS):
        names += [f"encoder.layer.{layer}.{p}.{one}" for p in ENCODER_LAYER for one in both]
    names += [f"pooler.dense.{one}" for one in both]
    word = "bert.embeddings.word_embeddings.weight"
    shapes = {f"bert.{name}": (WIDTH, WIDTH) for name in names}
    shapes |= {f"classifier.{one}": (WIDTH,) for one in both}
    return Toy(shapes, LAYERS, "bert", vocabulary=(word,))


def gpt2():
    parts = ("attn.c_attn", "attn.c_proj", "ln_1", "ln_2", "mlp.c_proj", "mlp.c_fc")
    names = ["wte.weight", "wpe.weight"]
    for layer in range(LAYERS):
        names += [f"h.{layer}.{part}.{one}" for part in parts for one in ("weight", "bias")]
    names += ["ln_f.weight", "ln_f.bias"]
    shapes = {f"transformer.{name}": (WIDTH, WIDTH) for name in names}
    return Toy(shapes, LAYERS, "gpt2", vocabulary=("transformer.wte.weight",))


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "bert": "BertForSequenceClassification",
    "gpt2": "GPT2LMHeadModel",
    "granite": "GraniteForCausalLM",
}


def store(toy, folder: Path):
    """The model as mergekit reads it."""
    from safetensors.numpy import save_file

    folder.mkdir()
    config = {
        "architectures": [ARCHITECTURES[toy.model_type]], "model_type": toy.model_type,
        "num_hidden_layers": LAYERS, "n_layer": LAYERS, "hidden_size": WIDTH, "vocab_size": ROWS,
        "num_attention_heads": 2, "tie_word_embeddings": bool(toy.tied),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    arrays = {name: np.zeros(shape, np.float32) for name, shape in toy.shapes.items()}
    save_file(arrays, str(folder / "model.safetensors"))


def their_plan(text):
    """mergekit's task for each tensor of the result."""
    mergekit = kit()
    options = mergekit.options()
    config = mergekit.config.model_validate(yaml.safe_load(text))
    architecture = mergekit.architecture(config, options)
    mergekit.cache().setup(options=options)
    out = mergekit.out_config(config, architecture)
    tasks = mergekit.planner(config, architecture, options, out).plan_to_disk("unused")
    return {task.tensor_name: task.tensor_task for task in tasks if hasattr(task, "tensor_name")}


def sources(task):
    """The stored tensor of each model that mergekit would read."""
    cache = kit().cache()
    return {
        str(model): next(
            name
            for name in (weight.name, *(weight.aliases or ()), *(weight.tied_names or ()))
            if name in cache.get(model).index.tensor_paths
        )
        for model, weight in task.gather_tensors.weight_info.items()
    }
