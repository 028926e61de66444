"""Predicted and measured memory of trainings and inferences, each in a process of its own.

    python benchmarks/memory.py [--only TEXT] [--targets] [--json]

Models of published shapes, some with fewer layers, are made in a temporary folder (2 GB). Each
configuration of `memory_cases` is trained for two steps in a fresh process, whose peak is what
the kernel counts as resident, mapped pages included. The prediction is `estimate.own_memory`; for
models that are run and not trained, `estimate.own_inference`.

The constants that do not follow from shapes are fitted here on every second configuration, and the
errors are those on the others; what `estimate/own_constants.py` holds was found in this way. With
`--targets`, exits with 1 when a target is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import memory_cases as cases
import numpy as np
from memory_cases import CASES, INFERENCES, MODELS, Case

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_binary
from entrenar_core.environment import Environment, environment
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.own_inference import own_inference
from entrenar_core.estimate.own_memory import own_memory, smaller_phase
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape, model_shape
from entrenar_core.estimate.targets import matching
from entrenar_core.train.measuring import make_model, measure_inference, measure_training

MEDIAN, WORST, SMALLEST = 0.03, 0.10, 500e6


@dataclass(frozen=True)
class Run:
    """One training: what follows from shapes, the smaller of its two phases, and the peak."""

    case: Case
    derived: int
    smaller: int
    measured: int

    def predicted(self, base: float, fragments: float) -> float:
        return self.derived + base + fragments * self.smaller


@dataclass(frozen=True)
class Row:
    name: str
    fitted: bool
    predicted: int
    measured: int
    error: float


@dataclass(frozen=True)
class Report:
    when: str
    environment: Environment
    base: int
    fragments: float
    rows: list[Row]
    inferences: list[Row]
    median_error: float
    worst_error: float

    def __view__(self) -> list[Any]:
        rows = [
            [
                row.name,
                format_binary(row.predicted),
                format_binary(row.measured),
                f"{100 * row.error:+.1f}%",
                "fit" if row.fitted else "judged",
            ]
            for row in (*self.rows, *self.inferences)
        ]
        missed = self.missed()
        return [
            Fields(None, [("when", self.when), *asdict(self.environment).items()]),
            Table("Peak memory", ["use", "predicted", "measured", "error", "used to"], rows),
            *(self._fitted() if self.rows else []),
            Text("; ".join(missed) or "every target is met", "bad" if missed else "good"),
        ]

    def _fitted(self) -> list[Fields]:
        """What was fitted on trainings, and how well that predicts the others."""
        return [
            Fields(
                "On the half that nothing was fitted on",
                [
                    ("median error", f"{100 * self.median_error:.1f}% (at most 3%)"),
                    ("worst error", f"{100 * self.worst_error:.1f}% (at most 10%)"),
                ],
            ),
            Fields(
                "Fitted (estimate/own_constants.py has these)",
                [("BASE", self.base), ("FRAGMENTS", self.fragments)],
            ),
        ]

    def missed(self) -> list[str]:
        """The targets that are missed, in words."""
        judged = [row for row in self.rows if not row.fitted]
        small = [row.name for row in self.rows if row.measured < SMALLEST]
        found = [f"{name}: below 500 MB" for name in small]
        if self.median_error > MEDIAN:
            found.append(f"median error {self.median_error:.3f}")
        judged += self.inferences
        found += [f"{row.name}: {row.error:+.3f}" for row in judged if abs(row.error) > WORST]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="configurations whose words contain this")
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = [case for case in CASES if options.only in words(case)]
    out = Output(json=options.json)
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(case, Path(folder), out) for case in chosen]
        inferences = [
            infer(model, inference, Path(folder), out)
            for model, inference in INFERENCES
            if options.only in inference_words(model, inference)
        ]
    report = judged(runs, inferences)
    out.emit(report, schema="entrenar.benchmark.memory/1")
    if options.targets and report.missed():
        sys.exit(1)


def run(case: Case, folder: Path, out: Output) -> Run:
    """Train in a fresh process."""
    setup = setup_of(case)
    measured = measure_training(made(case.model, folder), setup)
    memory = own_memory(shape_of(case.model), setup)
    derived = memory.total - memory["fixed overhead"]
    out.note(f"{words(case)}: {format_binary(measured)}, terms {format_binary(derived)}")
    return Run(case, derived, smaller_phase(memory.terms), measured)


def infer(model: str, inference: Inference, folder: Path, out: Output) -> Row:
    """Generate in a fresh process."""
    measured = measure_inference(made(model, folder), inference)
    predicted = own_inference(shape_of(model), inference).total
    name = inference_words(model, inference)
    out.note(f"{name}: {format_binary(measured)}, predicted {format_binary(predicted)}")
    return Row(name, False, predicted, measured, predicted / measured - 1)


def made(model: str, folder: Path) -> Path:
    """The folder of a model, made if it is not there yet."""
    place = folder / model.replace(", ", "-").replace(" ", "-")
    if not place.exists():
        make_model(MODELS[model], place)
    return place


def shape_of(model: str) -> ModelShape:
    """The shape of one of MODELS."""
    return model_shape(MODELS[model], name=model, origin="")


def setup_of(case: Case) -> Setup:
    """A case as what the estimates take."""
    shape = shape_of(case.model)
    targets = matching(shape.linears, case.targets) if case.targets else ()
    return Setup(
        case.method, case.base, targets, case.rank, case.optimizer, case.batch,
        case.accumulation, case.seq_len, case.checkpointing,
    )  # fmt: skip


def judged(runs: Sequence[Run], inferences: list[Row]) -> Report:
    """The constants fitted on the runs at even places, and the errors of all."""
    fitted = {run.case for run in runs[::2]}
    base, fragments = fit([run for run in runs if run.case in fitted]) if runs else (0.0, 0.0)
    rows = []
    for each in runs:
        predicted = each.predicted(base, fragments)
        error = predicted / each.measured - 1
        rows.append(
            Row(words(each.case), each.case in fitted, round(predicted), each.measured, error)
        )
    errors = [abs(row.error) for row in rows if not row.fitted] or [0.0]
    return Report(
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        environment=environment(),
        base=round(base),
        fragments=round(fragments, 4),
        rows=rows,
        inferences=inferences,
        median_error=median(errors),
        worst_error=max(errors),
    )


def fit(runs: Sequence[Run]) -> tuple[float, float]:
    """BASE and FRAGMENTS with the least squares of relative errors."""
    weights = np.array([1 / run.measured for run in runs])
    matrix = np.array([[1.0, run.smaller] for run in runs]) * weights[:, None]
    missing = np.array([run.measured - run.derived for run in runs]) * weights
    base, fragments = np.linalg.lstsq(matrix, missing, rcond=None)[0]
    return float(base), float(fragments)


def words(case: Case) -> str:
    """A case in a line."""
    how = "full"
    if case.method == "lora":
        kind = "LoRA" if case.base in cases.FLOATS else "QLoRA"
        how = f"{kind} r={case.rank} {','.join(case.targets)}"
    extra = [
        "" if case.base == "float32" else case.base,
        "" if case.optimizer == "adamw" else case.optimizer,
        "checkpointing" if case.checkpointing else "",
        f"×{case.accumulation}" if case.accumulation > 1 else "",
    ]
    notes = " ".join(filter(None, extra))
    return f"{case.model}: {how}, {case.batch}×{case.seq_len} {notes}".strip()


def inference_words(model: str, inference: Inference) -> str:
    """An inference in a line."""
    base = "" if inference.base == "float32" else f" {inference.base}"
    return f"{model}: inference, {inference.batch}×{inference.seq_len}{base}"


if __name__ == "__main__":
    main()
