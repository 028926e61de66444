"""The methods that `compare` puts side by side, by the names that users give them."""

import re
from dataclasses import dataclass

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls
from entrenar_core.estimate.engines import Engine

QLORA_RANK = 64
"""The rank of `qlora-4bit`: what QLoRA was evaluated with (arXiv:2305.14314, §5.1)."""

_LORA = re.compile(r"lora-(\d{1,5})")
_QLORA = re.compile(r"qlora-(4|8)bit(?:-(\d{1,5}))?")
_BITS = {"4": "nf4", "8": "int8"}


@dataclass(frozen=True)
class Method:
    """What a name stands for; rank 0 for full training."""

    name: str
    base: str
    rank: int

    @property
    def label(self) -> str:
        """What a table calls it."""
        if not self.rank:
            return "Full"
        bits = {base: bits for bits, base in _BITS.items()}.get(self.base)
        return f"QLoRA {bits}-bit r={self.rank}" if bits else f"LoRA r={self.rank}"


def parse_methods(text: str, engine: Engine) -> list[Method]:
    """The methods in `full,lora-16,qlora-4bit,qlora-8bit-32`.

    Raises UsageError for another name, one that is given twice, and what the engine has not.
    """
    methods = [_method(name.strip(), engine) for name in text.split(",")]
    names = [method.name for method in methods]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--methods: {twice} is there twice", hint="give each method once")
    return methods


def _method(name: str, engine: Engine) -> Method:
    if name == "full":
        return Method(name, engine.full[0], 0)
    plain, quantized = _LORA.fullmatch(name), _QLORA.fullmatch(name)
    if plain and int(plain[1]):
        return Method(name, engine.plain[0], int(plain[1]))
    rank = int(quantized[2] or QLORA_RANK) if quantized else 0
    if quantized and rank:
        base = _BITS[quantized[1]]
        if base not in engine.quantized:
            raise UsageError(
                f"--methods: {name} is not there with the engine {engine.name}",
                hint="leave it out, or compare for another engine",
            )
        return Method(name, base, rank)
    raise UsageError(
        f"--methods: {escape_controls(name)!r} is no method",
        hint="write full, lora-RANK, qlora-4bit, qlora-8bit, or with a rank qlora-4bit-16",
    )
