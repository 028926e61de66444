"""What to do with a finished run: commands that work as they stand, quoted for the shell (pure)."""

import json
import shlex
from pathlib import Path

__all__ = ["command", "next_commands"]

_WIDTH = 79

_TRY = """
from entrenar_core import {imports}
from entrenar_core.data.tokenizer import Tokenizer
folder = {folder}
tokenizer, model = Tokenizer.load(folder), models.load({base})
{adapt}ids = models.generate(model, tokenizer.encode({prompt}), max_new_tokens=60,
    temperature=0.8, eos_ids=tokenizer.eos_id)
print(tokenizer.decode(ids[ids < tokenizer.vocab_size]))"""

_ADAPT = """lora.load_adapter(model, folder + "/adapter")
"""

_TRANSFORMERS = """
from transformers import pipeline
write = pipeline("text-generation", {folder})
print(write({prompt}, max_new_tokens=60)[0]["generated_text"])"""


def next_commands(
    folder: Path,
    config_file: Path,
    *,
    temperature: float,
    prompt: str,
    controlled: bool,
    base: Path | None,
    tool: str,
    python: str,
    transformers: bool,
    cached: bool = False,
) -> tuple[str, ...]:
    """Shell commands, each with a comment line above it.

    `prompt` is what the student shall go on from, in one line; `base` is the model's folder where
    `folder` has only an adapter for it;
    `tool` and `python` are how entrenar-distill and its Python are started here; `transformers` is
    whether that Python has it; `cached` is whether the teacher's predictions came from a cache,
    which has those at some temperatures.
    """
    found: list[str] = []
    run = [tool, "run", "--config", str(config_file)]
    if not controlled:
        adding = ["--output", str(folder), "--control", "--resume", "auto"]
        found.append(command("find out whether the teacher helped", [*run, *adding]))
    other = 2 * temperature if temperature < 4 else temperature / 2
    words = [
        *run,
        "--output",
        f"{folder}-t{other:g}",
        "--set",
        f"distillation.temperature={other:g}",
    ]
    if not cached:
        found.append(command("try another temperature", words))
    # JSON's strings are Python's too, and double quotes are the ones that a shell leaves alone
    words = {"folder": json.dumps(str(folder.absolute())), "prompt": json.dumps(prompt)}
    own = {"imports": "models", "base": "folder", "adapt": ""}
    if base is not None:
        own = {
            "imports": "lora, models",
            "base": json.dumps(str(base.absolute())),
            "adapt": _ADAPT,
        }
    found.append(script("let the student write", python, _TRY.format(**words, **own)))
    if transformers and base is None:
        code = _TRANSFORMERS.format(**words)
        found.append(script("the same with transformers", python, code))
    return tuple(found)


def command(purpose: str, words: list[str]) -> str:
    """A command with a comment line above it, the words on as many lines as it takes, broken before
    options only."""
    groups: list[str] = []
    for word in words:
        if word.startswith("--") or not groups:
            groups.append(shlex.quote(word))
        else:
            groups[-1] += f" {shlex.quote(word)}"
    lines = groups[:1]
    for group in groups[1:]:
        if len(lines[-1]) + len(group) + 3 <= _WIDTH:
            lines[-1] += f" {group}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {group}")
    return "\n".join([f"# {purpose}", *lines])


def script(purpose: str, python: str, code: str) -> str:
    # no indentation: it would be part of the program
    return f"# {purpose}\n{shlex.quote(python)} -c {shlex.quote(code)}"
