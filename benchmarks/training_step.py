"""Whole training steps of entrenar beside PyTorch's: speed, memory, and that both do the same.

    python benchmarks/training_step.py [--config 24M] [--modes eager,entrenar] [--targets] [--json]
    python benchmarks/training_step.py --precision bf16

Each side runs in a process of its own; both are started and warmed up, and then take steps in
turns, so that a busy machine hits both alike. Memory is measured in further processes that take
nothing but a few steps. Exits with 1 when the losses differ; with `--targets`, when one is missed.

In bf16, matrices are multiplied in bfloat16: PyTorch under torch.autocast. Our float32 steps are
then measured too, since what bf16 brings is said beside them.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from exporter_cost import costs
from processes import Process, in_turn, with_threads
from step_report import Comparison, Product, Report, Side
from step_worker import ADAPTERS, Shape

from entrenar_common.output import Output

SHAPES = {
    "24M": Shape(hidden=288, layers=6, heads=6, inner=768, batch=8, time=256),
    "134M": Shape(hidden=768, layers=12, heads=12, inner=2048, batch=2, time=512),
    "124M": Shape(
        hidden=768, layers=12, heads=12, inner=2048, batch=2, time=512, vocabulary=50257, tied=True
    ),
    "gpt2": Shape(
        hidden=768, layers=12, heads=12, inner=3072, batch=2, time=512, vocabulary=50257,
        architecture="gpt2",
    ),
    "bert": Shape(
        hidden=768, layers=12, heads=12, inner=3072, batch=8, time=128, vocabulary=30522,
        architecture="bert",
    ),
}  # fmt: skip
"""24M, 134M and 124M: LLaMA, the last that of examples/llama2/configs/124m.yaml; gpt2: GPT-2 small;
bert: BERT base, as masked language model."""
WHOLE = tuple(SHAPES)
"""Those of which all weights are trained, and not an adapter."""
SHAPES |= {f"134M-{name}": replace(SHAPES["134M"], adapter=name) for name in ADAPTERS}
SHAPES["distillation"] = replace(SHAPES["24M"], teacher=SHAPES["134M"])
"""The 24M learns from the 134M."""

PRECISIONS = {
    "float32": ("eager", "compiled", "entrenar"),
    "bf16": ("eager-bf16", "compiled-bf16", "entrenar", "entrenar-bf16"),
}
"""What matrices are multiplied in → the modes that are measured where none are asked for."""
MODES = ("eager", "compiled", "trl", "eager-bf16", "compiled-bf16", "entrenar", "entrenar-bf16")
PEAK_STEPS = 3
EXPORTED_STEPS, EXPORTED_RATE = 600, 300.0
"""Steps that exporters are told of, and how many a second."""


def _process(mode: str, shape: Shape, weights: Path, environment: dict[str, str]) -> Process:
    """A worker of its own."""
    worker = "distillation_worker.py" if shape.teacher else "step_worker.py"
    script = str(Path(__file__).with_name(worker))
    command = [sys.executable, script, mode, json.dumps(asdict(shape)), str(weights)]
    return Process(mode, command, environment)


def main() -> None:
    options = _options()
    out = Output(json=options.json, quiet=options.quiet)
    if (
        importlib.util.find_spec("torch") is None
        or importlib.util.find_spec("transformers") is None
    ):
        sys.exit("training_step.py needs torch and transformers: run `make bench-step`")
    environment = with_threads(options.threads)
    comparisons, machine = [], {}
    for name in options.config:
        comparison, machine = _compare(name, options, environment, out)
        comparisons.append(comparison)
    out.note("what exporters cost")
    exporters = costs(steps=EXPORTED_STEPS, rate=EXPORTED_RATE)
    blas_variables = {k: v for k, v in environment.items() if k.startswith("OPENBLAS_")}
    report = Report(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine,
        openblas_variables=blas_variables,
        rounds=options.rounds,
        comparisons=comparisons,
        targets=options.targets,
        exporters=exporters,
    )
    out.emit(report, "entrenar.benchmark.training-step/1")
    sys.exit(0 if report.passed() else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    modes = f"of {','.join(MODES)}\n(those of the precision; trl is for distillation alone)"
    shapes = f"of {','.join(SHAPES)} (the first {len(WHOLE)})"
    add("--config", type=_chosen(SHAPES), default=list(WHOLE), help=shapes)
    add("--precision", choices=PRECISIONS, default="float32", help="of products (float32)")
    add("--modes", type=_chosen(MODES), help=modes)
    add("--rounds", type=int, default=10, help="timed steps of each side (10)")
    add("--warmup", type=int, default=2, help="steps before those (2)")
    add("--threads", type=int, help="threads of each side (default: their own choice, all cores)")
    add("--targets", action="store_true", help="exit with 1 when a target is missed")
    add("--json", action="store_true", help="one JSON document instead of tables")
    add("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    options.modes = options.modes or PRECISIONS[options.precision]
    return options


def _chosen(known: Any) -> Any:
    def choose(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        if set(names) - set(known):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return names

    return choose


def _compare(
    name: str, options: argparse.Namespace, environment: dict[str, str], out: Output
) -> tuple[Comparison, dict[str, Any]]:
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory(prefix="entrenar-bench-") as folder, ExitStack() as stack:
        weights = Path(folder)
        written = replace(shape, adapter="lora") if shape.adapter == "qlora" else shape
        with _process("eager", written, weights, environment) as writer:
            writer.ask("save", folder=folder)
        sides = []
        for mode in options.modes:
            out.note(f"{name} {mode}: starting and warming up")
            side = stack.enter_context(_process(mode, shape, weights, environment))
            sides.append(side)
            for step in range(options.warmup):
                side.ask("step", batch=step)
        machine = {side.mode: side.ask("describe") for side in sides}
        threads = max(said.get("threads", 1) for said in machine.values())
        out.note(f"{name}: matrix products")
        products = _products(shape, sides)
        out.note(f"{name}: {options.rounds} rounds of steps")
        answers = _rounds(sides, range(options.warmup, options.warmup + options.rounds))
        results = [Side.of(side.mode, side.failed, answers[side.mode]) for side in sides]
        stack.close()
        for result in results:
            out.note(f"{name} {result.mode}: memory")
            if not result.failed:
                result.peak_bytes = _peak(result.mode, shape, weights, environment)
    return Comparison(name, shape, threads, results, products), machine


def _rounds(sides: list[Process], batches: range) -> dict[str, list[dict[str, Any]]]:
    answers: dict[str, list[dict[str, Any]]] = {side.mode: [] for side in sides}
    for batch in batches:
        for side in in_turn(sides):
            answers[side.mode].append(side.ask("step", batch=batch))
    return answers


def _products(shape: Shape, sides: list[Process]) -> list[Product]:
    """The matrix rate of both libraries at the step's products, in turns, in each precision."""
    chunk = min(shape.tokens, 1024)
    wanted = {
        "square": (2048, 2048, 2048),
        "projection": (shape.tokens, shape.hidden, shape.hidden),
        "gate, up": (shape.tokens, shape.inner, shape.hidden),
        "down": (shape.tokens, shape.hidden, shape.inner),
        "head": (chunk, shape.vocabulary, shape.hidden),
    }
    rated = [side for side in sides if side.mode.partition("-")[0] in ("eager", "entrenar")]
    found: list[Product] = []
    for name, (m, n, k) in wanted.items():
        rates: dict[str, list[float]] = {side.mode: [] for side in rated}
        for _ in range(5):
            for side in in_turn(rated):
                rates[side.mode].append(side.ask("multiply", m=m, n=n, k=k).get("gflops", 0.0))
        medians = {mode: median(values) for mode, values in rates.items()}
        found.append(Product(name, m, n, k, medians))
    return found


def _peak(mode: str, shape: Shape, weights: Path, environment: dict[str, str]) -> int:
    with _process(mode, shape, weights, environment) as fresh:
        for step in range(PEAK_STEPS):
            fresh.ask("step", batch=step)
        return fresh.ask("peak").get("bytes", 0)


if __name__ == "__main__":
    main()
