"""How models are broken for tests: a registry, and changes of bytes, headers, configs, tensors."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from entrenar_core.io.safetensors import write_file
from whole_models import WholeModels, read, set_config

WEIGHTS = "model.safetensors"
Q3 = "model.layers.3.self_attn.q_proj.weight"
UNKNOWN_Q3 = "net.blocks.3.attn.q.weight"
EMBEDDING = "model.embed_tokens.weight"


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


def of_config(name: str, rule: str, of: str = "llama", **keys: Any) -> None:
    breaks(name, of, rule)(lambda folder: set_config(folder, **keys))


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
