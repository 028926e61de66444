"""The plain commands about adapters and merging, which are those of entrenar-lora."""

from __future__ import annotations

from entrenar_shell import knowledge
from entrenar_shell.command import Command, Kind
from entrenar_shell.form import Form, command

__all__ = ["ADAPTERS"]

_NO_MODEL = "load one: load PATH as NAME, or say which with --model"
_VALUES: tuple[tuple[str, Kind], ...] = (
    ("model", "model"), ("models", "model"), ("base", "model"), ("tuned", "model"),
    ("adapter", "adapter"), ("adapters", "adapter"), ("other", "adapter"), ("config", "file"),
    ("results", "file"), ("output", "file"),
)  # fmt: skip


def _form(name: str, **filled: knowledge.Fill) -> Form:
    return Form("entrenar-lora", name, fill=filled, values=_VALUES, missing=_NO_MODEL)


ADAPTERS: tuple[Command, ...] = (
    command(
        "lora plan", "adapters", "Choose a way to fine-tune a model in the memory that there is.",
        _form("plan", model=knowledge.model), examples=("lora plan --vram 16GB",),
    ),
    command(
        "lora compare", "adapters", "Show what several methods of fine-tuning take, side by side.",
        _form("compare", model=knowledge.model),
        examples=("lora compare --methods full,lora-16,qlora-4bit",),
    ),
    command(
        "lora inspect", "adapters", "Show what is in an adapter, or what two have in common.",
        _form("inspect"), examples=("lora inspect ./adapter", "lora inspect ./one ./other"),
    ),
    command(
        "lora merge", "adapters", "Merge adapters into their base, or several into one.",
        _form("merge"), examples=("lora merge --base base --adapter ./adapter --output ./merged",),
    ),
    command(
        "lora convert", "adapters", "Write an adapter in another file format.", _form("convert"),
        examples=("lora convert ./adapter --to gguf --base base --output adapter.gguf",),
    ),
    command(
        "lora resize", "adapters", "Give an adapter a smaller rank.", _form("resize"),
        examples=("lora resize ./adapter --rank 8 --output ./smaller",),
    ),
    command(
        "lora extract", "adapters", "Make an adapter of the difference of two models.",
        _form("extract"),
        examples=("lora extract --base base --tuned tuned --rank 32 --output ./adapter",),
    ),
    command(
        "merge", "adapters", "Merge adapters into their base model, or whole models.",
        _form("merge"),
        examples=(
            "merge --base base --adapter ./adapter --output ./merged",
            "merge --method slerp --t 0.5 --model one --model other --output ./merged",
        ),
    ),
)  # fmt: skip
