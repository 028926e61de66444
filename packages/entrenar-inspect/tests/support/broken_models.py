"""Ways to break a model: what is broken, of which whole one, and the rule that tells it."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from entrenar_core.io.gguf import GGUFFile
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from whole_models import WholeModels, read, set_config

WEIGHTS = "model.safetensors"
Q3 = "model.layers.3.self_attn.q_proj.weight"
UNKNOWN_Q3 = "net.blocks.3.attn.q.weight"


class Breakage(NamedTuple):
    """The whole model that is copied, the rule that has to tell, and what is done to the copy."""

    of: str
    rule: str
    do: Callable[[Path], None]


BROKEN: dict[str, Breakage] = {}
"""All of them, by what was done."""


def breaks(name: str, of: str, rule: str) -> Callable[[Callable[[Path], None]], Any]:
    def register(do: Callable[[Path], None]) -> Callable[[Path], None]:
        assert name not in BROKEN
        BROKEN[name] = Breakage(of, rule, do)
        return do

    return register


def broken_copy(name: str, whole: WholeModels, folder: Path) -> Path:
    """The model that was broken in the way called `name`, in `folder`."""
    path = whole.copy(BROKEN[name].of, folder)
    BROKEN[name].do(path)
    return path


# ---- safetensors: the header --------------------------------------------------------------------


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file as JSON, and its data."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: dict[str, Any] | str, data: bytes) -> None:
    """Write a safetensors file of a header, whatever it says, and data."""
    text = header if isinstance(header, str) else json.dumps(header)
    raw = text.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def of_header(name: str, rule: str, change: Callable[[dict[str, Any]], Any], of: str = "llama"):
    """A breakage that changes the header and leaves the data."""

    def do(folder: Path) -> None:
        header, data = split(folder / WEIGHTS)
        join(folder / WEIGHTS, change(header) or header, data)

    breaks(name, of, rule)(do)


def of_bytes(name: str, rule: str, change: Callable[[bytes], bytes], of: str = "llama"):
    """A breakage of the bytes of the file of weights."""

    def do(path: Path) -> None:
        file = weights_of(path)
        file.write_bytes(change(file.read_bytes()))

    breaks(name, of, rule)(do)


def weights_of(path: Path) -> Path:
    """The first file of weights of a model."""
    if path.is_file():
        return path
    return next(p for p in sorted(path.iterdir()) if p.suffix in (".safetensors", ".bin"))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 9\n"
HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"

of_bytes("empty file", "V102", lambda _: b"")
of_bytes("cut in the header", "V102", lambda raw: raw[:500])
of_bytes("cut in the data", "V102", lambda raw: raw[:-1000])
of_bytes("last byte is missing", "V102", lambda raw: raw[:-1])
of_bytes("header length has a bit flipped", "V102", lambda raw: raw[:3] + b"\1" + raw[4:])
of_bytes("bytes after the data", "V101", lambda raw: raw + b"#!/bin/sh")
of_bytes("a Git LFS pointer", "V103", lambda _: LFS)
of_bytes("an error page", "V103", lambda _: HTML)
of_header("unknown type", "V104", lambda h: h[Q3].update(dtype="F33"))
of_header("data that begin later", "V101", lambda h: h[Q3].update(data_offsets=[
    h[Q3]["data_offsets"][0] + 4, h[Q3]["data_offsets"][1] + 4]))  # fmt: skip
of_header("a shape that is too small", "V101", lambda h: h[Q3].update(shape=[64, 63]))
of_header("a tensor twice", "V101", lambda h: json.dumps(h)[:-1] + f', "{Q3}": 0}}')
of_header("a name with an escape sequence", "V134", lambda h: h.update(
    {"\x1b[2J": h.pop("model.norm.weight")}))  # fmt: skip
of_header("shape the other way round", "V203", lambda h: h[
    "model.layers.3.mlp.up_proj.weight"].update(shape=[64, 96]))  # fmt: skip
of_header("a float16 tensor called bfloat16", "V223", lambda h: h[Q3].update(dtype="BF16"),
          of="float16")  # fmt: skip
of_header("a bfloat16 norm called float16", "V223", lambda h: h["model.norm.weight"].update(
    dtype="F16"), of="bfloat16")  # fmt: skip
of_header("a float32 tensor called int32", "V222", lambda h: h[UNKNOWN_Q3].update(dtype="I32"),
          of="unknown family")  # fmt: skip


# ---- the config ---------------------------------------------------------------------------------


def of_config(name: str, rule: str, of: str = "llama", **keys: Any) -> None:
    breaks(name, of, rule)(lambda folder: set_config(folder, **keys))


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


def of_tensors(
    name: str, rule: str, change: Callable[[dict[str, np.ndarray]], Any], of: str = "llama"
) -> None:
    """A breakage of the tensors, written anew."""

    def do(folder: Path) -> None:
        tensors = read(weights_of(folder))
        change(tensors)
        write_file(weights_of(folder), tensors, {"format": "pt"})

    breaks(name, of, rule)(do)


def put(name: str, at: tuple[int, ...], value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][at] = value

    return change


def flip(name: str, at: tuple[int, ...], bit: int) -> Callable[[dict[str, np.ndarray]], None]:
    """Turns one bit of a float32 round; bits 23 to 30 are the exponent."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name].view(np.uint32)[at] ^= np.uint32(1 << bit)

    return change


def scaled(name: str, factor: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] *= np.float32(factor)

    return change


EMBEDDING = "model.embed_tokens.weight"
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


# ---- shards -------------------------------------------------------------------------------------

INDEX = "model.safetensors.index.json"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def set_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


@breaks("two shards swapped", "sharded", "V112")
def _(folder: Path) -> None:
    first, second = shards(folder)[:2]
    first.rename(folder / "kept")
    second.rename(first)
    (folder / "kept").rename(second)


@breaks("a shard is missing", "sharded", "V111")
def _(folder: Path) -> None:
    shards(folder)[1].unlink()


@breaks("one shard cut", "sharded", "V102")
def _(folder: Path) -> None:
    path = shards(folder)[1]
    path.write_bytes(path.read_bytes()[:-5])


@breaks("a tensor that no index lists", "sharded", "V113")
def _(folder: Path) -> None:
    set_index(folder, lambda index: index["weight_map"].pop("model.norm.weight"))


@breaks("another total size", "sharded", "V114")
def _(folder: Path) -> None:
    set_index(folder, lambda index: index["metadata"].update(total_size=1))


@breaks("a shard outside", "sharded", "V115")
def _(folder: Path) -> None:
    set_index(folder, lambda index: index["weight_map"].update({Q3: "../../elsewhere"}))


@breaks("index is no JSON", "sharded", "V115")
def _(folder: Path) -> None:
    (folder / INDEX).write_text("[")


@breaks("a tensor in two shards", "sharded", "V116")
def _(folder: Path) -> None:
    first, second = shards(folder)[:2]
    tensors = read(second)
    with SafetensorsFile(first) as file:
        name = file.names()[0]
        tensors[name] = np.array(file.read(name))
    write_file(second, tensors, {"format": "pt"})


# ---- recorded hashes ----------------------------------------------------------------------------


def turned(path: Path, at: int, bit: int = 0) -> None:
    """Turn one bit of a file round, behind a link too."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.resolve().write_bytes(raw)


breaks("last bit of a checkpoint", "checkpoint", "V121")(lambda f: turned(f / WEIGHTS, -1))
breaks("last bit in the hub's cache", "hub cache", "V121")(lambda f: turned(f / WEIGHTS, -1))
breaks("last bit of a download", "download", "V121")(lambda f: turned(f / WEIGHTS, -1))
breaks("config changed in the hub's cache", "hub cache", "V121")(
    lambda folder: set_config(folder, rms_norm_eps=1e-5)
)


@breaks("a file of a checkpoint is longer", "checkpoint", "V122")
def _(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{}" + " " * 99)


@breaks("a file of a checkpoint is missing", "checkpoint", "V122")
def _(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


@breaks("the manifest was altered", "checkpoint", "V123")
def _(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"step": 3', '"step": 4'))


# ---- pickles ------------------------------------------------------------------------------------


class _Evil:
    """Pickles to a call of os.system, as malware does."""

    def __reduce__(self):
        return os.system, ("touch never",)


@breaks("weights that run a program", "torch", "V131")
def _(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": _Evil()}, 2))


@breaks("settings that would run a program", "llama", "V132")
def _(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(pickle.dumps(_Evil(), 4))


of_bytes("a bit of a storage", "V105", lambda raw: raw[:-9000] + bytes(
    [raw[-9000] ^ 1]) + raw[-8999:], of="torch")  # fmt: skip
of_bytes("an archive cut", "V102", lambda raw: raw[:-1000], of="torch")


# ---- GGUF and APR -------------------------------------------------------------------------------


def place_in_gguf(raw: bytes, name: bytes) -> int:
    """Where the rank of a tensor is told, behind its name."""
    return raw.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)


def in_gguf(name: bytes, after: int, value: bytes) -> Callable[[bytes], bytes]:
    """Other bytes so far behind the name of a tensor of two axes."""

    def change(raw: bytes) -> bytes:
        at = place_in_gguf(raw, name) + after
        return raw[:at] + value + raw[at + len(value) :]

    return change


TYPE, OFFSET = 4 + 16, 4 + 16 + 4
GGUF_Q = b"blk.0.attn_q.weight"
of_bytes("another offset", "V101", in_gguf(GGUF_Q, OFFSET, b"\x41"), of="gguf f32")
of_bytes("a type that there is not", "V104", in_gguf(GGUF_Q, TYPE, b"\x7f"), of="gguf f32")
of_bytes("another extent", "V101", in_gguf(GGUF_Q, 4, b"\x20"), of="gguf f32")
of_bytes("fewer tensors than are there", "V101", lambda raw: raw[:8] + b"\x05" + raw[9:],
         of="gguf f32")  # fmt: skip
of_bytes("a tensor of another name", "V206", lambda raw: raw.replace(GGUF_Q, b"blk.0.attn_x.weight"),
         of="gguf f32")  # fmt: skip
of_bytes("GGUF cut", "V102", lambda raw: raw[:-100], of="gguf q8_0")
of_bytes("GGUF with another first letter", "V101", lambda raw: b"Q" + raw[1:], of="gguf q8_0")


def put_in_block(name: str, block: int, at: int, value: float) -> Callable[[Path], None]:
    """Another float16 in a block of a GGUF file's tensor."""

    def do(path: Path) -> None:
        with GGUFFile(path) as file:
            info = file.info(name)
            start = file._data_start + info.begin + block * info.form.block_bytes + at
        raw = bytearray(path.read_bytes())
        raw[start : start + 2] = np.float16(value).tobytes()
        path.write_bytes(raw)

    return do


breaks("a scale of q8_0 is NaN", "gguf q8_0", "V406")(
    put_in_block("blk.3.ffn_up.weight", 17, 0, np.nan)
)
breaks("a scale of q4_k is infinite", "gguf q4_k_m", "V406")(
    put_in_block("blk.1.attn_q.weight", 17, 0, np.inf)
)
breaks("a scale of q8_0 is absurd", "gguf q8_0", "V406")(
    put_in_block("token_embd.weight", 17, 0, 60000.0)
)
of_bytes("base64 with another letter", "V101", lambda raw: raw[:-3000] + b"!" + raw[-2999:],
         of="apr")  # fmt: skip
of_bytes("APR cut", "V102", lambda raw: raw[:-3000], of="apr")


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
