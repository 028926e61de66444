"""Models whose contents are broken, in files that open: configs, tensors, numbers, tokens."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from breakage import EMBEDDING, Q3, UNKNOWN_Q3, breaks, flip, of_config, of_tensors, put, scaled
from entrenar_core.io.safetensors import write_file
from whole_models import read

# ---- the config ---------------------------------------------------------------------------------

of_config("a block more in the config", "V201", num_hidden_layers=7)
of_config("a block fewer in the config", "V202", num_hidden_layers=5)
of_config("another width in the config", "V203", hidden_size=128)
of_config("another vocabulary in the config", "V203", vocab_size=512)
of_config("another number of blocks, of no family", "V212", "unknown family", num_hidden_layers=9)
of_config("no output matrix", "V205", "unknown family", tie_word_embeddings=False)
of_config("config says bfloat16", "V224", "float16", dtype="bfloat16")
of_config("end of text beyond the rows", "V302", eos_token_id=300)
of_config("code of its own", "V133", auto_map={"AutoModel": "modeling_own.Model"})


@breaks("config is no JSON", "llama", "V106")
def _(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama",')


@breaks("Python beside the weights", "llama", "V133")
def _(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("import os\n")


# ---- tensors ------------------------------------------------------------------------------------

of_tensors("a tensor is missing", "V201", lambda t: t.pop(Q3))
of_tensors("a tensor too many", "V202", lambda t: t.update(extra=np.ones(3, np.float32)))
of_tensors("a block is missing", "V201", lambda t: [t.pop(n) for n in list(t) if ".3." in n])
of_tensors("a head unlike the embedding it is tied to", "V204", lambda t: t.update(
    {"lm_head.weight": t[EMBEDDING] + 1}), of="tied llama")  # fmt: skip
of_tensors("a block is missing, of no family", "V211",
           lambda t: [t.pop(n) for n in list(t) if ".3." in n], of="unknown family")  # fmt: skip
of_tensors("a tensor is missing, of no family", "V213", lambda t: t.pop(UNKNOWN_Q3),
           of="unknown family")  # fmt: skip
of_tensors("one block is narrower", "V214", lambda t: t.update(
    {UNKNOWN_Q3: t[UNKNOWN_Q3][:32].copy()}), of="unknown family")  # fmt: skip
of_tensors("scales are missing", "V221", lambda t: t.pop("model.layers.3.q_proj.scales"),
           of="gptq")  # fmt: skip
of_tensors("absmax is missing", "V221", lambda t: t.pop(f"{Q3}.absmax"), of="nf4")
of_tensors("only the codes are there", "V221",
           lambda t: [t.pop(n) for n in list(t) if n.startswith(f"{Q3}.")], of="nf4")  # fmt: skip
of_tensors("a scale of NF4 is NaN", "V401", put(f"{Q3}.absmax", (3,), np.nan), of="nf4")
of_tensors("NaN", "V401", put(Q3, (7, 11), np.nan))
of_tensors("infinity", "V402", put(Q3, (7, 11), -np.inf))
of_tensors("NaN in a norm", "V401", put("model.norm.weight", (5,), np.nan))
of_tensors("highest bit of an exponent", "V403", flip(EMBEDDING, (7, 11), 30))
of_tensors("highest bit of an exponent in a norm", "V402", flip("model.norm.weight", (5,), 30))
of_tensors("a number far too large", "V403", put(EMBEDDING, (7, 11), 5000.0))
of_tensors("a number too large", "V404", put(EMBEDDING, (7, 11), -30.0))
of_tensors("a matrix of zeros", "V405", scaled(Q3, 0.0))
of_tensors("an embedding of zeros", "V405", scaled(EMBEDDING, 0.0))
of_tensors("a matrix a hundred times too large", "V407", scaled(Q3, 100.0))

# ---- tokenizer and adapter ----------------------------------------------------------------------


def set_tokenizer(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    found = json.loads((folder / "tokenizer.json").read_text())
    change(found)
    (folder / "tokenizer.json").write_text(json.dumps(found))


@breaks("more tokens than rows", "llama", "V301")
def _(folder: Path) -> None:
    set_tokenizer(
        folder, lambda t: t["model"]["vocab"].update({f"more{n}": 290 + n for n in range(20)})
    )


@breaks("an added token beyond the rows", "llama", "V301")
def _(folder: Path) -> None:
    token = {"id": 300, "content": "<image>", "special": True}
    set_tokenizer(folder, lambda t: t.update(added_tokens=[token]))


@breaks("tokenizer is no JSON", "llama", "V303")
def _(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@breaks("tokenizer without a vocabulary", "llama", "V303")
def _(folder: Path) -> None:
    set_tokenizer(folder, lambda t: t["model"].pop("vocab"))


@breaks("another rank in the config of an adapter", "adapter", "V231")
def _(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))


@breaks("an A without its B", "adapter", "V232")
def _(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = read(path)
    tensors.pop(sorted(tensors)[1])
    write_file(path, tensors)
