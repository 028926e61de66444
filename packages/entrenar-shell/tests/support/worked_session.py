"""A session of real work on toy models, and what runs its command lines and keeps an entry of each.

The driver does what a shell does with a plain command line; whatever else makes a `Session` of
entries can take its place.
"""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe
from entrenar_shell.session import Entry, Session
from entrenar_shell.states import state_of
from entrenar_shell.tools import tool

WORDS = ("the", "a", "red", "blue", "small", "old", "fox", "dog", "tree", "runs", "sees", "under")
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}


def make_world(folder: Path) -> Path:
    """`text/`, `teacher/` and two configurations of distillations; one says where its output is."""
    (folder / "text").mkdir(parents=True)
    rng = np.random.default_rng(7)
    texts = [" ".join(WORDS[j] for j in rng.integers(len(WORDS), size=60)) for _ in range(24)]
    for i, text in enumerate(texts):
        (folder / "text" / f"{i:03d}.txt").write_text(text + "\n")
    tokenizer = train_bpe(texts, 320)
    own = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
    models.save(models.from_config({**SHAPE, **own}, seed=1), folder / "teacher")
    tokenizer.save(folder / "teacher")
    config = {
        "teacher": {"model_id": "teacher"},
        "student": {"config": {**SHAPE, "hidden_size": 16, "num_hidden_layers": 1}},
        "training": {"max_steps": 3, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1},
        "dataset": {"name": "text", "max_length": 32, "held_out": 0.2},
    }
    for name, output in (("distill.yaml", {}), ("placed.yaml", {"dir": "placed"})):
        data = {**config, "output": {"checkpoint_every": 2, **output}}
        (folder / name).write_text(yaml.safe_dump(data, sort_keys=False))
    return folder


class Driver:
    """Runs command lines in a folder, in this process, and keeps the session of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = Session("worked")

    def run(self, line: str, reads: str = "", writes: str = "") -> int:
        """Run a line of a tool; `reads` and `writes` are paths of files and folders."""
        program, *words = shlex.split(line)
        with contextlib.chdir(self.folder):
            inputs = tuple(state_of(path) for path in reads.split())
            code = run_here([program, *words], str(self.folder))
            outputs = tuple(state_of(path) for path in writes.split())
        number = len(self.session.entries) + 1
        entry = Entry(
            number, line, ((program, *words),), str(self.folder), 0.0, 0.0, code, inputs, outputs
        )
        self.session.entries.append(entry)
        return code

    def own(self, line: str) -> None:
        """Keep a command of the shell itself."""
        number = len(self.session.entries) + 1
        self.session.entries.append(Entry(number, line, (), str(self.folder), 0.0, 0.0, 0))


def run_here(words: list[str], folder: str) -> int:
    """A command line in this process, what it prints with it."""
    program, *rest = words
    with contextlib.chdir(folder):
        return tool(program).main(rest, prog_name=program, standalone_mode=False)


def thirty() -> Iterator[tuple[str, str, str, int]]:
    """Lines of a day's work with what they read and write and how they end."""
    inspect, distill, lora = "entrenar-inspect", "entrenar-distill", "entrenar-lora"
    yield f"{inspect} info teacher", "teacher", "", 0
    yield f"{inspect} layers teacher --stats", "teacher", "", 0
    yield f"{inspect} memory teacher", "teacher", "", 0
    yield f"{inspect} validate teacher", "teacher", "", 0
    config = "distill.yaml text teacher"
    yield f"{distill} run --config distill.yaml --output out --dry-run", config, "", 0
    yield f"{distill} run --config distill.yaml --output out", config, "out", 0
    yield f"{distill} run --config distill.yaml --output out", config, "", 12
    yield f"{inspect} info out", "out", "", 0
    export = f"{distill} export --input out --format"
    yield f"{export} safetensors --output=made/s.safetensors", "out", "made/s.safetensors", 0
    yield f"{export} gguf --output made/q8.gguf --quantize q8_0", "out", "made/q8.gguf", 0
    yield f"{export} gguf --output 'made/f16.gguf' --quantize f16", "out", "made/f16.gguf", 0
    yield f"{export} apr --output made/s.apr", "out", "made/s.apr", 0
    yield f"{inspect} validate made/q8.gguf", "made/q8.gguf", "", 0
    yield f"{inspect} compare out teacher", "out teacher", "", 1
    adapter = "--set student.lora.rank=4 --set student.model_id=teacher --set student.config=null"
    yield f"{distill} run --config distill.yaml --output tuned {adapter}", config, "tuned", 0
    yield f"{lora} inspect tuned/adapter", "tuned/adapter", "", 0
    one = "--adapter tuned/adapter"
    yield f"{lora} merge --base teacher {one} --output merged", "teacher tuned/adapter", "merged", 0
    yield f"{lora} merge {one} {one} --weights 0.3,0.7 --output both", "tuned/adapter", "both", 0
    yield f"{lora} resize tuned/adapter --rank 2 --output small", "tuned/adapter", "small", 0
    yield f"{lora} convert tuned/adapter --to json --output a.json", "tuned/adapter", "a.json", 0
    to_gguf = f"{lora} convert tuned/adapter --to gguf --base teacher --output a.gguf"
    yield to_gguf, "tuned/adapter teacher", "a.gguf", 0
    extract = f"{lora} extract --base teacher --tuned merged --rank 4 --output taken"
    yield extract, "teacher merged", "taken", 0
    yield f"{lora} extract --base out --tuned out --rank 2 --output none", "out", "", 10
    slerp = f"{lora} merge --method slerp --t 0.5 --model teacher --model"
    yield f"{slerp} merged --output slerp", "teacher merged", "slerp", 0
    yield (
        f"{slerp} teacher+taken --output plus.gguf --quantize q8_0",
        "teacher taken",
        "plus.gguf",
        0,
    )
    placed = f"{distill} run --config placed.yaml --teacher merged"
    yield placed, "placed.yaml text merged", "placed", 0
    yield f"{inspect} convert out --output made/s.pth", "out", "made/s.pth", 0
    back = f"{inspect} convert made/q8.gguf --to safetensors --output back"
    yield back, "made/q8.gguf", "back", 0
    yield f"{inspect} compare out made/s.safetensors", "out made/s.safetensors", "", 0
    yield f"{distill} evaluate --model out --model slerp --data text", "out slerp text", "", 0
