"""The plain commands that write models in other files."""

from __future__ import annotations

from entrenar_shell import knowledge
from entrenar_shell.command import Command, Kind
from entrenar_shell.form import HUB, Form, command

__all__ = ["EXPORT"]

_NO_MODEL = "train or load one, or say which with --model"
_VALUES: tuple[tuple[str, Kind], ...] = (
    ("source", "model"), ("output", "folder"), ("calibrate", "file"), ("eval_data", "file"),
)  # fmt: skip


def _export(form: str, arguments: tuple[str, ...] = ("output",)) -> Form:
    """A command that writes what was trained last, or the session's model, in one format."""
    return Form(
        "entrenar-distill", "export", always=("--format", form), hidden=("form",),
        renamed={"source": "--model"}, arguments=arguments, fill={"source": knowledge.result},
        values=_VALUES, missing=_NO_MODEL,
    )  # fmt: skip


EXPORT: tuple[Command, ...] = (
    command(
        "save", "export", "Write the model that was trained last to a new folder.",
        _export("safetensors"), examples=("save ./my-model", "save ./copy --model teacher"),
    ),
    command(
        "export safetensors", "export", "Write a model for transformers.", _export("safetensors"),
        examples=("export safetensors ./my-model", "export safetensors weights.safetensors"),
    ),
    command(
        "export gguf", "export", "Write a model for llama.cpp.", _export("gguf"),
        examples=("export gguf model.gguf --quantize q4_k_m",),
    ),
    command(
        "export apr", "export", "Write a model for any program that reads JSON.", _export("apr"),
        examples=("export apr model.apr --model student",),
    ),
    command(
        "quantize", "export", "Write a model for llama.cpp in few bits.",
        _export("gguf", ("quantization", "output")),
        examples=("quantize q4_k_m small.gguf", "quantize q8_0 big.gguf --model teacher"),
    ),
    command(
        "convert", "export", "Write a model in another kind of file, and compare the two.",
        Form(
            "entrenar-inspect", "convert", fill={"model": knowledge.model},
            values=(("model", "model"), ("output", "file")), hub=HUB, missing=_NO_MODEL,
        ),
        examples=("convert --output model.pth", "convert teacher --to apr --output teacher.apr"),
    ),
)  # fmt: skip
