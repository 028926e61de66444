"""A LoRA adapter as a GGUF file that llama.cpp applies to a model.

llama.cpp multiplies B·A by alpha/rank with one alpha for the whole file. Modules may differ in both
in PEFT, and rsLoRA divides by √rank, so what is not in that one number is multiplied into B.
Sources: Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA);
https://github.com/ggml-org/llama.cpp, `src/llama-adapter.cpp`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.convert.recipe import FORMATS
from entrenar_core.io.files import Written
from entrenar_core.io.gguf import Planned, f32, text, write_gguf
from entrenar_core.lora.changes import TAKES_OVER
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.models.base import parameter_shapes, read_config
from entrenar_core.models.gguf_family import Family, family_of
from entrenar_core.models.source import read_raw
from entrenar_core.quant import BlockArray

_MERGE = "merge the adapter into its model, and export that"


def write_gguf_adapter(adapter: StoredAdapter, base: Path, output: Path) -> Written:
    """Write `adapter`, which was made for the model whose config is at `base` (a folder, a GGUF or
    APR file), as a GGUF file of float32.

    Raises UnsupportedError for what is more than B·A and for a module that llama.cpp has no place
    for, ConfigError for one of another shape than the model's.
    """
    _check_applies(adapter)
    config = read_config(base)
    family = family_of(config.model_type)
    adapter.check_fits(parameter_shapes(read_raw(base), head=family.head), {})
    keys = {
        "general.architecture": text(family.architecture),
        "general.type": text("adapter"),
        "general.name": text(adapter.path.resolve().stem),
        "adapter.type": text("lora"),
        "adapter.lora.alpha": f32(adapter.config.alpha),
    }
    arrays: dict[str, np.ndarray] = {}
    for module in adapter.modules:
        arrays |= _laid_out(adapter, family, config, module)
    form = FORMATS["f32"]
    planned = [Planned(name, form, array.shape) for name, array in arrays.items()]

    def read(name: str) -> BlockArray:
        return form.wrap(np.ascontiguousarray(arrays[name]).view(np.uint8), arrays[name].shape)

    return write_gguf(output, keys, planned, read)


def _check_applies(adapter: StoredAdapter) -> None:
    config = adapter.config
    more = {
        "DoRA": config.use_dora,
        "biases of B (lora_bias)": config.lora_bias,
        f"whole tensors, such as {escape_controls(min(adapter.whole, default=''))}": adapter.whole,
        f"a start as {config.init}": config.init in TAKES_OVER,
    }
    for what, has in more.items():
        if has:
            raise UnsupportedError(
                f"{adapter.path}: has {what}, and llama.cpp adds B·A to a model and nothing more",
                hint=_MERGE,
            )


def _laid_out(
    adapter: StoredAdapter, family: Family, config: Any, module: str
) -> dict[str, np.ndarray]:
    label = f"{adapter.path}: {escape_controls(module)}"
    name = family.names.to_gguf(f"{module}.weight")
    if name is None:
        raise UnsupportedError(
            f"{label}: llama.cpp's {family.architecture} has no place for it", hint=_MERGE
        )
    update = adapter.update(module)
    # of the embeddings llama.cpp wants A by token
    a = update.a.T if name == "token_embd.weight" else update.a
    b = update.b * np.float32(update.scale * update.rank / adapter.config.alpha)
    b = family.outputs_to_gguf(name, b, config)
    return {f"{name}.lora_a": a, f"{name}.lora_b": b}
