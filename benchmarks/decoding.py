"""Decoding with a key-value cache beside transformers and llama.cpp: tokens a second, and memory.

    python benchmarks/decoding.py [--compute float32,bf16,int8] [--batch 1,16] [--json]

A LLaMA of 134 million random weights is saved as a Hugging Face folder and, for llama.cpp, as GGUF
files. Each side runs in a process of its own, and they decode in turns: the likeliest token is
taken, and none ends a text, so that all make as many. The rate is that of the whole call: new
tokens by its seconds, the prompt's included. Where entrenar cannot compute in a type, or there is
no llama.cpp, that is said and left out. Exits with 1 when our float32 does not find the tokens that
transformers' float32 does.

llama.cpp is run by the Python that --llama names, in which llama_cpp can be imported; by default
that of .venv-llama (make .venv-llama/.installed), else of .venv-conformance, whose build is not
made for speed.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from decoding_report import Batch, DecodingReport, Side
from processes import Process, in_turn, with_threads
from training_step import SHAPES

from entrenar_common.output import Output

COMPUTES = ("float32", "bf16", "int8")
ROOT = Path(__file__).parents[1]
LLAMAS = (".venv-llama", ".venv-conformance")
"""Environments with a llama_cpp, the one that is made for speed first."""
TOKENIZER_SIZE = 600
"""Of the tokenizer that a GGUF file has to have; the vocabulary is padded."""


@dataclass(frozen=True)
class Peer:
    """A library in one type of numbers, with the Python that runs it and what it reads."""

    library: str
    compute: str
    python: Path
    model: Path

    @property
    def mode(self) -> str:
        return f"{self.library} {self.compute}"

    def started(self, environment: dict[str, str]) -> Process:
        script = Path(__file__).with_name("decoding_worker.py")
        words = [self.python, script, self.library, self.compute, self.model]
        return Process(self.mode, [str(word) for word in words], environment)


def main() -> None:
    options = _options()
    out = Output(json=options.json, quiet=options.quiet)
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        sys.exit("decoding.py needs torch and transformers: run `make bench-decode`")
    environment = with_threads(options.threads)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="entrenar-bench-") as folder:
        peers = _peers(Path(folder), options, out, notes)
        measured, machine, peaks = _measure(peers, options, environment, out)
    report = DecodingReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine,
        openblas_variables={k: v for k, v in environment.items() if k.startswith("OPENBLAS_")},
        prompt=options.prompt,
        new=options.new,
        rounds=options.rounds,
        batches=measured,
        peak_bytes=peaks,
        notes=notes,
    )
    out.emit(report, "entrenar.benchmark.decoding/1")
    sys.exit(0 if report.passed() else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--compute", type=_words, default=list(COMPUTES), help=f"of {','.join(COMPUTES)} (all)")
    add("--batch", type=_numbers, default=[1, 16], help="texts at a time (1,16)")
    add("--prompt", type=int, default=32, help="tokens of a prompt (32)")
    add("--new", type=int, default=128, help="tokens that are decoded after it (128)")
    add("--rounds", type=int, default=5, help="turns of each side (5)")
    add("--threads", type=int, help="threads of each side (default: their own choice, all cores)")
    add("--llama", type=Path, metavar="PYTHON", help="a Python that has llama_cpp")
    add("--json", action="store_true", help="one JSON document instead of tables")
    add("-q", "--quiet", action="store_true", help="no notes on standard error")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(COMPUTES):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(COMPUTES)}")
    return names


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _peers(folder: Path, options: argparse.Namespace, out: Output, notes: list[str]) -> list[Peer]:
    """All sides, whose models are written into `folder`."""
    here, model = Path(sys.executable), folder / "model"
    out.note("writing the model")
    _write_model(model)
    peers = [Peer("transformers", compute, here, model) for compute in ("float32", "bf16")]
    llama = _llama(options.llama)
    if llama is None:
        notes.append("no llama.cpp: make .venv-llama/.installed, or name one with --llama")
    else:
        if options.llama is None and LLAMAS[0] not in str(llama):
            notes.append(f"llama.cpp is that of {LLAMAS[1]}, whose build is not made for speed")
        for compute in ("bf16", "q8_0"):
            out.note(f"writing the {compute} file")
            peers.append(Peer("llama.cpp", compute, llama, _write_gguf(model, compute)))
    return peers + [Peer("entrenar", compute, here, model) for compute in options.compute]


def _write_model(folder: Path) -> None:
    from entrenar_core import models
    from entrenar_core.data.tokenizer import train_bpe

    shape = SHAPES["134M"].config() | {"architectures": ["LlamaForCausalLM"]}
    models.save(models.from_config(shape, seed=0), folder)
    texts = [path.read_text("utf-8") for path in sorted(Path(os.__file__).parent.glob("*.py"))[:20]]
    train_bpe(texts, vocab_size=TOKENIZER_SIZE).save(folder)


def _write_gguf(model: Path, compute: str) -> Path:
    from entrenar_core import convert

    path = model.with_name(f"{compute}.gguf")
    convert.export(model, path, form="gguf", quantization=compute)
    return path


def _llama(named: Path | None) -> Path | None:
    """The Python by which llama.cpp is run."""
    tried = [named] if named else [ROOT / name / "bin/python" for name in LLAMAS]
    for python in tried:
        # the path of an environment's Python is not to be resolved: it says which environment
        if python.exists():
            found = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True)
            if not found.returncode:
                return python.absolute()
    return None


def _measure(
    peers: list[Peer], options: argparse.Namespace, environment: dict[str, str], out: Output
) -> tuple[list[Batch], dict[str, dict[str, Any]], dict[str, int]]:
    """Every batch; what each side says of itself, and its peak of memory, which is that of the
    largest batch."""
    with ExitStack() as stack:
        sides = []
        for peer in peers:
            out.note(f"{peer.mode}: starting")
            sides.append(stack.enter_context(peer.started(environment)))
        machine = {side.mode: side.ask("describe") for side in sides}
        batches = [_batch(texts, sides, options, out) for texts in options.batch]
        return batches, machine, {side.mode: side.ask("peak").get("bytes", 0) for side in sides}


def _batch(texts: int, sides: list[Process], options: argparse.Namespace, out: Output) -> Batch:
    asked = {"texts": texts, "prompt": options.prompt}
    answers: dict[str, list[dict[str, Any]]] = {side.mode: [] for side in sides}
    firsts: dict[str, list[float]] = {side.mode: [] for side in sides}
    for number in range(options.rounds + 1):
        out.note(f"{texts} at a time: " + (f"round {number}" if number else "warming up"))
        for side in in_turn(sides):
            first = side.ask("decode", **asked, new=1)
            answer = side.ask("decode", **asked, new=options.new)
            if number and answer:
                firsts[side.mode].append(first["seconds"])
                answers[side.mode].append(answer)
    found = [Side.of(s.mode, s.failed, firsts[s.mode], answers[s.mode]) for s in sides]
    return Batch(texts, options.new, found)


if __name__ == "__main__":
    main()
