"""The plain commands about models and their memory, which stand for those of entrenar-inspect."""

from __future__ import annotations

from entrenar_shell import afterwards, knowledge
from entrenar_shell.command import Command, Kind
from entrenar_shell.form import HUB, Form, command

__all__ = ["GENERATE", "GENERATE_VALUES", "MEMORY", "MODELS"]

_NO_MODEL = "load one: load PATH as NAME, or fetch ORG/NAME; or say which"
_MODEL: tuple[tuple[str, Kind], ...] = (("model", "model"), ("only", "tensor"))


def _look(name: str, *always: str, hidden: tuple[str, ...] = ()) -> Form:
    """A command of entrenar-inspect about one model, by default the session's."""
    return Form(
        "entrenar-inspect", name, always=always, hidden=hidden, fill={"model": knowledge.model},
        values=_MODEL, hub=HUB, missing=_NO_MODEL,
    )  # fmt: skip


_FETCH = Form("entrenar-inspect", "fetch")
_COMPARE = Form(
    "entrenar-inspect", "compare", fill={"a": knowledge.model},
    values=(("a", "model"), ("b", "model"), ("name_filter", "tensor")), hub=HUB, missing=_NO_MODEL,
)  # fmt: skip
GENERATE_VALUES: tuple[tuple[str, Kind], ...] = (("model", "model"),)
GENERATE = Form(
    "entrenar-distill", "generate", fill={"model": knowledge.result},
    values=GENERATE_VALUES, missing=_NO_MODEL, required=("prompt",),
)  # fmt: skip
_OPTIMIZE = Form(
    "entrenar-lora", "plan", fill={"model": knowledge.model}, values=(("model", "model"),),
    missing=_NO_MODEL,
)  # fmt: skip

MODELS: tuple[Command, ...] = (
    command(
        "fetch", "models", "Download a model from the hub, and load it under its name.", _FETCH,
        after=afterwards.fetched,
        examples=("fetch microsoft/codebert-base", "fetch org/name --revision v1.0"),
    ),
    command(
        "inspect layers", "models", "List the tensors of a model as the tree of its modules.",
        _look("layers"),
        examples=("inspect layers", "inspect layers teacher --filter 'layers.0.*'"),
    ),
    command(
        "inspect info", "models", "Show what a model is: family, size, precision, tokenizer.",
        _look("info"), examples=("inspect info", "inspect info model.gguf"),
    ),
    command(
        "inspect tensors", "models", "List every tensor of a model, those of like blocks too.",
        _look("layers", "--verbose"),
        examples=("inspect tensors", "inspect tensors --filter '*.q_proj.*'"),
    ),
    command(
        "inspect stats", "models", "Read all numbers of a model: means, extremes, zeros, outliers.",
        _look("layers", "--stats", hidden=("stats",)),
        examples=("inspect stats", "inspect stats student --filter '*norm*'"),
    ),
    command(
        "inspect validate", "models", "Say whether a model is sound, to every number in it.",
        _look("validate"), examples=("inspect validate", "inspect validate student --strict"),
    ),
    command(
        "compare", "models", "Show what differs between two models.", _COMPARE,
        examples=("compare teacher student", "compare student --values"),
    ),
    command(
        "generate", "models", "Have a model go on with a text.", GENERATE,
        examples=("generate 'Once upon a time'", "generate --model student --temperature 0 'def '"),
    ),
)  # fmt: skip

MEMORY: tuple[Command, ...] = (
    command(
        "memory", "memory", "Say how much memory it takes to run a model and to train it.",
        _look("memory"), examples=("memory --batch 32 --seq 512", "memory teacher --vram 24GB"),
    ),
    command(
        "optimize", "memory", "Say how to fine-tune a model in the memory there is, as commands.",
        _OPTIMIZE, after=afterwards.advice,
        examples=("optimize --vram 16GB", "optimize --ram 16GB --method lora"),
    ),
)  # fmt: skip
