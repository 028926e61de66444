"""Opening files for what they say about themselves, beside the formats' own Python packages.

    python benchmarks/gguf_open.py [--rounds 5] [--targets] [--json]

A GGUF file with a vocabulary of 152,000 tokens is opened for its metadata, and then its tokens are
read, beside `gguf.GGUFReader`; a safetensors file of 13 GB (nearly all of it a hole in the file
system) beside `safetensors`. The sides are called in turns and the medians compared. With
`--targets`, exits with 1 when one is missed.
"""

import argparse
import importlib.util
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from entrenar_common.output import Output
from entrenar_common.tables import Table, Text
from entrenar_core.environment import Environment, environment
from entrenar_core.io import gguf
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.quant import BY_NUMBER

VOCABULARY = 151_936
LAYERS, WIDTH, INNER = 32, 4096, 11_008
GGUF_LIMIT, SAFETENSORS_LIMIT = 50, 20
"""Milliseconds."""
MOST_SECONDS = 5
"""A side that has taken longer is not called again."""


@dataclass
class Opening:
    """What was opened, by what; `limit` is the most milliseconds that it is to take. `rounds` are
    the milliseconds of each turn."""

    name: str
    milliseconds: float
    peer: str
    peer_milliseconds: float
    limit: float | None
    rounds: list[float]
    peer_rounds: list[float]

    @property
    def speed(self) -> float:
        """The peer's time by ours."""
        return self.peer_milliseconds / self.milliseconds


@dataclass
class OpenReport:
    environment: Environment
    rounds: int
    openings: list[Opening]

    def misses(self) -> list[str]:
        """What is above its limit, in words."""
        return [
            f"{o.name}: {o.milliseconds:.0f} ms, wanted at most {o.limit}"
            for o in self.openings
            if o.limit is not None and o.milliseconds > o.limit
        ]

    def __view__(self) -> Iterator[Any]:
        rows = [
            [
                o.name,
                f"{o.milliseconds:.1f}",
                "" if o.limit is None else str(o.limit),
                o.peer,
                f"{o.peer_milliseconds:.1f}",
                f"{o.speed:.2f}×",
            ]
            for o in self.openings
        ]
        columns = ["", "ms", "at most", "beside", "ms", "speed"]
        yield Table("Opening files", columns, rows, f"medians of at most {self.rounds} turns")
        for miss in self.misses():
            yield Text(miss, "bad")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    options = parser.parse_args()
    if importlib.util.find_spec("gguf") is None:
        sys.exit("gguf_open.py needs the package gguf: install the extra `parity`")
    report = measure(options.rounds)
    Output(json=options.json).emit(report, "entrenar.benchmark.open/1")
    sys.exit(1 if options.targets and report.misses() else 0)


def measure(rounds: int) -> OpenReport:
    """Both files, made in a temporary folder, opened by both sides in turns."""
    from gguf import GGUFReader
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        vocabulary, large = Path(folder) / "vocabulary.gguf", Path(folder) / "large.safetensors"
        write_vocabulary(vocabulary)
        write_large(large)

        def our_tokens() -> int:
            with gguf.GGUFFile(vocabulary) as file:
                return len(file.metadata.strings("tokenizer.ggml.tokens"))

        def their_tokens() -> int:
            return len(GGUFReader(vocabulary).fields["tokenizer.ggml.tokens"].contents())

        def their_header() -> int:
            with safe_open(large, "numpy") as file:
                return len(file.keys())

        def case(name: str, ours: Callable, peer: str, theirs: Callable, limit: float | None):
            own, other = _turns(rounds, ours, theirs)
            return Opening(name, median(own), peer, median(other), limit, own, other)

        return OpenReport(
            environment(),
            rounds,
            [
                case(
                    f"GGUF, {VOCABULARY:,} tokens: metadata",
                    lambda: gguf.GGUFFile(vocabulary).close(),
                    "gguf",
                    lambda: GGUFReader(vocabulary),
                    GGUF_LIMIT,
                ),
                case("the same, and its tokens", our_tokens, "gguf", their_tokens, None),
                case(
                    f"safetensors, {large.stat().st_size / 1e9:.1f} GB: header",
                    lambda: SafetensorsFile(large).close(),
                    "safetensors",
                    their_header,
                    SAFETENSORS_LIMIT,
                ),
            ],
        )


def _turns(rounds: int, ours: Callable, theirs: Callable) -> list[list[float]]:
    """The milliseconds of each turn of both sides.

    The first turn of a side warms up, unless it takes so long that this does not matter.
    """
    seconds: dict[Callable, list[float]] = {ours: [], theirs: []}
    for _ in range(rounds + 1):
        for side, found in seconds.items():
            if sum(found) > MOST_SECONDS:
                continue
            begun = time.perf_counter()
            side()
            found.append(time.perf_counter() - begun)
    return [[1e3 * each for each in found[1:] or found] for found in seconds.values()]


def write_vocabulary(path: Path) -> None:
    """Tokens and merges of random letters, scores, token types; as many tensors as a 7B has."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzĠĊé漢"))
    tokens, left, right = (_words(rng, letters) for _ in range(3))
    metadata = {
        "general.architecture": gguf.text("llama"),
        "tokenizer.ggml.model": gguf.text("gpt2"),
        "tokenizer.ggml.tokens": gguf.texts(tokens),
        "tokenizer.ggml.scores": gguf.array(gguf.ValueType.F32, np.zeros(VOCABULARY, np.float32)),
        "tokenizer.ggml.token_type": gguf.array(gguf.ValueType.I32, np.ones(VOCABULARY, np.int32)),
        "tokenizer.ggml.merges": gguf.texts(map(" ".join, zip(left, right, strict=True))),
        "tokenizer.chat_template": gguf.text("{{ messages }}" * 300),
    }
    small = BY_NUMBER[0].quantize(np.ones((8, 8), np.float32))
    planned = [gguf.Planned(name, small.form, small.shape) for name in _shapes()]
    gguf.write_gguf(path, metadata, planned, lambda _: small)


def _words(rng: np.random.Generator, letters: np.ndarray) -> list[str]:
    lengths = rng.integers(1, 14, VOCABULARY)
    together = "".join(letters[rng.integers(len(letters), size=int(lengths.sum()))])
    ends = np.cumsum(lengths)
    return [together[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _shapes() -> dict[str, tuple[int, ...]]:
    """A LLaMA of 7 billion parameters."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        names = {f"self_attn.{x}_proj": (WIDTH, WIDTH) for x in "qkvo"}
        names |= {f"mlp.{x}_proj": (INNER, WIDTH) for x in ("gate", "up")}
        names |= {"mlp.down_proj": (WIDTH, INNER)}
        names |= dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (WIDTH,))
        found |= {f"model.layers.{layer}.{n}.weight": shape for n, shape in names.items()}
    ends = {
        "model.embed_tokens": (32_000, WIDTH),
        "model.norm": (WIDTH,),
        "lm_head": (32_000, WIDTH),
    }
    return found | {f"{name}.weight": shape for name, shape in ends.items()}


def write_large(path: Path) -> None:
    """A safetensors file of that model in 16 bits, whose data was never written."""
    header, offset = {}, 0
    for name, shape in _shapes().items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + offset)


if __name__ == "__main__":
    main()
