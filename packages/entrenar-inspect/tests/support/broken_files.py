"""Models whose files are broken: bytes, headers, shards, recorded hashes, pickles, GGUF and APR."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from breakage import Q3, UNKNOWN_Q3, WEIGHTS, breaks, of_bytes, of_header
from entrenar_core.io.gguf import GGUFFile, Planned, texts, write_gguf
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from torch_bytes import archive, records
from whole_models import read, set_config

# ---- safetensors: the header --------------------------------------------------------------------


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


@breaks("weights of PyTorch that run a program", "torch", "V131")
def _(folder: Path) -> None:
    body = pickle.dumps({"a": _Evil()}, 2)
    (folder / "pytorch_model.bin").write_bytes(archive(records(body)))


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
of_bytes("a tensor of another name", "V206",
         lambda raw: raw.replace(GGUF_Q, b"blk.0.attn_x.weight"), of="gguf f32")  # fmt: skip
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


@breaks("more tokens than rows in GGUF", "gguf f32", "V301")
def _(path: Path) -> None:
    with GGUFFile(path) as file:
        metadata = {key: file.metadata.value(key) for key in file.metadata}
        tokens = metadata["tokenizer.ggml.tokens"].content
        metadata["tokenizer.ggml.tokens"] = texts([*tokens, *(f"more{n}" for n in range(20))])
        planned = [Planned(t.name, t.form, t.shape) for t in file.tensors.values()]
        write_gguf(path, metadata, planned, file.read)


of_bytes("base64 with another letter", "V101", lambda raw: raw[:-3000] + b"!" + raw[-2999:],
         of="apr")  # fmt: skip
of_bytes("APR cut", "V102", lambda raw: raw[:-3000], of="apr")
