"""Models in which nothing is wrong, made on first use, each in a folder of its own below a root."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from adapter_files import write_peft
from entrenar_core import models
from entrenar_core.convert import export
from entrenar_core.io.safetensors import SafetensorsFile, Written, write_file, write_folder
from entrenar_core.io.torch_save import write_torch
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.quant import NF4, quantize
from entrenar_core.train.checkpoint_manifest import Manifest
from model_files import SMALL, bpe

BLOCKS, MANY_BLOCKS = 6, 12
LLAMA: dict[str, Any] = SMALL | {
    "model_type": "llama", "num_hidden_layers": BLOCKS, "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1, "eos_token_id": 2, "dtype": "float32",
}  # fmt: skip
K_BLOCKS = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
UNKNOWN: dict[str, Any] = {
    "model_type": "nobody-knows", "num_hidden_layers": MANY_BLOCKS, "hidden_size": 64,
    "vocab_size": 300, "architectures": ["NobodyKnowsForCausalLM"], "tie_word_embeddings": True,
}  # fmt: skip
"""The config of a model whose tensors are those of no family."""

_PARTS = {
    "norm.weight": (64,), "attn.q.weight": (64, 64), "attn.k.weight": (32, 64),
    "mlp.up.weight": (96, 64), "mlp.down.weight": (64, 96),
}  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, in memory of their own."""
    with SafetensorsFile(path) as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def set_config(folder: Path, **keys: Any) -> None:
    """Change keys of a config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


class WholeModels:
    """The folders and files, by what they are; none of them is to be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, Path] = {}

    def __call__(self, name: str) -> Path:
        """The path of the model called `name` in `MAKERS`."""
        if name not in self._made:
            folder = self.root / name.replace(" ", "-")
            folder.mkdir(parents=True)
            self._made[name] = MAKERS[name](self, folder)
        return self._made[name]

    def copy(self, name: str, folder: Path) -> Path:
        """A copy that may be changed, where the model lies in `folder`."""
        shutil.rmtree(folder, ignore_errors=True)
        whole = self(name)
        shutil.copytree(self.root / name.replace(" ", "-"), folder, symlinks=True)
        return folder / whole.relative_to(self.root / name.replace(" ", "-"))


def _llama(_whole: WholeModels, folder: Path, **keys: Any) -> Path:
    config = LLAMA | keys
    model = models.from_config(config, seed=1)
    models.save(model, folder)
    set_config(folder, architectures=config["architectures"])
    bpe().save(folder)
    return folder


def _narrow(dtype: type, name: str) -> Callable[[WholeModels, Path], Path]:
    def make(whole: WholeModels, folder: Path) -> Path:
        source = whole("llama")
        shutil.copytree(source, folder, dirs_exist_ok=True)
        tensors = {n: a.astype(dtype) for n, a in read(source / "model.safetensors").items()}
        write_file(folder / "model.safetensors", tensors, {"format": "pt"})
        set_config(folder, dtype=name)
        return folder

    return make


def _sharded(whole: WholeModels, folder: Path) -> Path:
    source = whole("llama")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    write_folder(folder, read(source / "model.safetensors"), 300_000)
    return folder


def _unknown(_whole: WholeModels, folder: Path) -> Path:
    rng = np.random.default_rng(3)

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)

    tensors = {"net.wte.weight": drawn(300, 64), "net.end.weight": np.ones(64, np.float32)}
    for number in range(MANY_BLOCKS):
        for part, shape in _PARTS.items():
            tensors[f"net.blocks.{number}.{part}"] = drawn(*shape)
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(UNKNOWN))
    return folder


def _exported(form: str, quantization: str, source: str, name: str):
    def make(whole: WholeModels, folder: Path) -> Path:
        export(whole(source), folder / name, form=form, quantization=quantization)
        return folder / name

    return make


def _torch(whole: WholeModels, folder: Path) -> Path:
    shutil.copytree(whole("llama"), folder, dirs_exist_ok=True)
    write_torch(folder / "pytorch_model.bin", read(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    return folder


def _adapter(_whole: WholeModels, folder: Path) -> Path:
    return write_peft(folder)


def _checkpoint(whole: WholeModels, folder: Path) -> Path:
    shutil.copytree(whole("llama"), folder, dirs_exist_ok=True)
    files = {
        path.name: Written(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    }
    record = Manifest("run", 3, "0" * 64, "1", None, files).to_json()
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _cached(whole: WholeModels, folder: Path) -> Path:
    """As huggingface_hub's cache has it: large files by SHA-256, the others by Git's hash."""
    snapshot, blobs = folder / "snapshots" / ("a" * 40), folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in sorted(whole("llama").iterdir()):
        content = path.read_bytes()
        large = path.suffix == ".safetensors"
        name = hashlib.sha256(content).hexdigest() if large else _git_hash(content)
        (blobs / name).write_bytes(content)
        (snapshot / path.name).symlink_to(Path("../../blobs") / name)
    return snapshot


def _downloaded(whole: WholeModels, folder: Path) -> Path:
    """As `hf download --local-dir` leaves it."""
    shutil.copytree(whole("llama"), folder, dirs_exist_ok=True)
    notes = folder / ".cache/huggingface/download"
    notes.mkdir(parents=True)
    for path in sorted(folder.glob("*.*")):
        if path.is_file():
            content = path.read_bytes()
            large = path.suffix == ".safetensors"
            name = hashlib.sha256(content).hexdigest() if large else _git_hash(content)
            (notes / f"{path.name}.metadata").write_text(f"{'a' * 40}\n{name}\n1.0\n")
    return folder


def _gptq(_whole: WholeModels, folder: Path) -> Path:
    """Blocks as AutoGPTQ stores them, 4 bits in groups of 32."""
    rng = np.random.default_rng(5)
    tensors: dict[str, np.ndarray] = {}
    for number in range(BLOCKS):
        for part in ("q_proj", "k_proj", "up_proj", "down_proj"):
            stem = f"model.layers.{number}.{part}"
            tensors[f"{stem}.qweight"] = rng.integers(0, 2**31, (8, 64), np.int32)
            tensors[f"{stem}.qzeros"] = rng.integers(0, 2**31, (2, 8), np.int32)
            tensors[f"{stem}.scales"] = rng.uniform(0.001, 0.01, (2, 64)).astype(np.float16)
            tensors[f"{stem}.g_idx"] = np.repeat(np.arange(2, dtype=np.int32), 32)
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    config = UNKNOWN | {
        "num_hidden_layers": BLOCKS,
        "quantization_config": {"quant_method": "gptq", "bits": 4},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _nf4(whole: WholeModels, folder: Path) -> Path:
    """Projections in NF4 as bitsandbytes stores them: see its `QuantState.as_dict`."""
    shutil.copytree(whole("llama"), folder, dirs_exist_ok=True)
    tensors = read(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        stored = quantize(tensors[name], NF4(double=False))
        state = {
            "quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(stored.shape)
        }  # fmt: skip
        tensors[name] = stored.codes[:, None]
        tensors[f"{name}.absmax"], tensors[f"{name}.quant_map"] = stored.scales.codes, ENTRIES
        raw = np.frombuffer(json.dumps(state).encode(), np.uint8)
        tensors[f"{name}.quant_state.bitsandbytes__nf4"] = raw
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    set_config(folder, quantization_config=settings)
    return folder


MAKERS: dict[str, Callable[[WholeModels, Path], Path]] = {
    "llama": _llama,
    "tied llama": lambda whole, folder: _llama(whole, folder, tie_word_embeddings=True),
    "wide llama": lambda whole, folder: _llama(whole, folder, **K_BLOCKS),
    "float16": _narrow(np.float16, "float16"),
    "bfloat16": _narrow(ml_dtypes.bfloat16, "bfloat16"),
    "sharded": _sharded,
    "unknown family": _unknown,
    "gguf f32": _exported("gguf", "f32", "llama", "model.gguf"),
    "gguf q8_0": _exported("gguf", "q8_0", "llama", "model.gguf"),
    "gguf q4_k_m": _exported("gguf", "q4_k_m", "wide llama", "model.gguf"),
    "apr": _exported("apr", "f32", "llama", "model.apr"),
    "torch": _torch,
    "adapter": _adapter,
    "checkpoint": _checkpoint,
    "hub cache": _cached,
    "download": _downloaded,
    "gptq": _gptq,
    "nf4": _nf4,
}  # fmt: skip
"""How each is made."""
