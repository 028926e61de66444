"""Predicted and measured memory of distillations, each in a process of its own.

    python benchmarks/distillation_memory.py [--only TEXT] [--targets] [--json]

Models with drawn weights are made in a temporary folder. Each case of CASES is trained for three
steps in a fresh process, the student (and the control) is written and read again, and all models
are measured on documents, as `entrenar-distill run` does it; the peak is what the kernel counts as
resident, mapped pages included. The prediction is `estimate.own_distillation`. Nothing is fitted
here. With `--targets`, exits with 1 when a target is missed.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_binary
from entrenar_core.environment import Environment, environment
from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_core.train.measuring import make_model
from entrenar_distill.config import DistillConfig
from entrenar_distill.planned import Planned, planned
from entrenar_distill.probe import probe_of

WORST = 0.10


def llama(hidden: int, layers: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    """The config of a model with heads of 64 numbers, and inner layers of 8/3 of its width."""
    return {
        "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
        "intermediate_size": hidden * 8 // 3 // 16 * 16, "num_attention_heads": hidden // 64,
        "vocab_size": vocabulary, "max_position_embeddings": 2048, "tie_word_embeddings": True,
        **more,
    }  # fmt: skip


MODELS = {
    "47M": llama(512, 10, 32000, tie_word_embeddings=False, num_key_value_heads=4),
    "26M": llama(384, 8, 32000),
    "24M": llama(512, 8, 1000),
    "8M": llama(320, 7, 1000),
    "gpt2, 29M": {
        "model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 6, "vocab_size": 50257,
        "n_positions": 1024, "bos_token_id": 0, "eos_token_id": 0,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A distillation: sections of its configuration, and the models in MODELS."""

    teacher: str
    student: str | tuple[int, ...]
    batch: int
    seq_len: int
    control: bool = False
    more: str = ""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def case(
    teacher: str, student: Any, batch: int, seq_len: int, more: str = "", /, **rest: Any
) -> Case:
    control = rest.pop("control", False)
    return Case(teacher, student, batch, seq_len, control, more, rest)


BF16 = {"training": {"mixed_precision": "bf16"}}
LORA = {"rank": 16, "alpha": 16.0}
MINILM = {"attention": {"kind": "minilm"}}
HIDDEN = {"progressive": {"loss": "mse"}}
CASES = (
    case("47M", "26M", 2, 256),
    case("47M", "26M", 8, 256),
    case("47M", "26M", 4, 512, "bf16 teacher", **BF16),
    case("47M", "47M", 4, 256, "LoRA", student={"lora": LORA}),
    case("47M", "47M", 4, 256, "QLoRA nf4", student={"lora": LORA, "quantize": "nf4"}),
    case("47M", (0, 3, 6, 9), 4, 256, "layers of the teacher"),
    case("24M", "8M", 8, 256, "hidden_mse, projected", distillation=HIDDEN),
    case("24M", "8M", 8, 256, "minilm", distillation=MINILM),
    case("24M", "8M", 32, 128),
    case("gpt2, 29M", "gpt2, 29M", 2, 512),
    case("24M", "8M", 8, 256, "control", control=True),
    case("24M", "24M", 1, 64, "short"),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    name: str
    phase: str
    predicted: int
    measured: int
    error: float
    seconds_per_step: float


@dataclass(frozen=True)
class Report:
    when: str
    environment: Environment
    rows: list[Row]
    median_error: float
    worst_error: float

    def __view__(self) -> list[Any]:
        rows = [
            [
                row.name, row.phase, format_binary(row.predicted), format_binary(row.measured),
                f"{100 * row.error:+.1f}%",
            ]
            for row in self.rows
        ]  # fmt: skip
        missed = self.missed()
        return [
            Fields(None, [("when", self.when), *asdict(self.environment).items()]),
            Table("Peak memory", ["distillation", "peak", "predicted", "measured", "error"], rows),
            Fields(
                None,
                [
                    ("median error", f"{100 * self.median_error:.1f}%"),
                    ("worst error", f"{100 * self.worst_error:.1f}% (at most 10%)"),
                ],
            ),
            Text("; ".join(missed) or "every target is met", "bad" if missed else "good"),
        ]

    def missed(self) -> list[str]:
        """The targets that are missed, in words."""
        return [f"{row.name}: {row.error:+.3f}" for row in self.rows if abs(row.error) > WORST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="distillations whose words contain this")
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out = Output(json=options.json)
    with tempfile.TemporaryDirectory() as folder:
        rows = [run(each, Path(folder), out) for each in CASES if options.only in words(each)]
    report = judged(rows)
    out.emit(report, schema="entrenar.benchmark.distillation_memory/1")
    if options.targets and report.missed():
        sys.exit(1)


def run(each: Case, folder: Path, out: Output) -> Row:
    """Distil in a fresh process."""
    plan = plan_of(each, folder)
    memory = own_distillation(plan.student, plan.teacher, plan.asked)
    start = None if isinstance(each.student, tuple) else made(each.student, folder)
    found = probe_of(plan, made(each.teacher, folder), start)
    name, error = words(each), memory.total / found.peak_bytes - 1
    sizes = f"{format_binary(found.peak_bytes)}, predicted {format_binary(memory.total)}"
    out.note(f"{name}: {sizes} ({100 * error:+.1f}%, {memory.phase})")
    return Row(name, memory.phase, memory.total, found.peak_bytes, error, found.student_seconds)


def plan_of(each: Case, folder: Path) -> Planned:
    """A case as what the estimate takes."""
    sections = {name: dict(section) for name, section in each.sections.items()}
    student: dict[str, Any] = sections.pop("student", {})
    if isinstance(each.student, tuple):
        student["layers_from_teacher"] = each.student
    else:
        student["model_id"] = str(made(each.student, folder))
    training = {"batch_size": each.batch, "max_steps": 3, **sections.pop("training", {})}
    config = {
        "teacher": {"model_id": str(made(each.teacher, folder))},
        "student": student,
        "training": training,
        "dataset": {"name": "none", "max_length": each.seq_len},
        "control": each.control,
        **sections,
    }
    return planned(DistillConfig.model_validate(config))


def made(model: str, folder: Path) -> Path:
    """The folder of a model, made if it is not there yet."""
    place = folder / model.replace(", ", "-")
    if not place.exists():
        make_model(MODELS[model], place)
    return place


def judged(rows: Sequence[Row]) -> Report:
    """The errors of all rows."""
    errors = [abs(row.error) for row in rows] or [0.0]
    return Report(
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        environment=environment(),
        rows=list(rows),
        median_error=median(errors),
        worst_error=max(errors),
    )


def words(each: Case) -> str:
    """A case in a line."""
    student = each.student
    if isinstance(student, tuple):
        student = f"layers {','.join(map(str, student))}"
    return f"{each.teacher} → {student}, {each.batch}×{each.seq_len} {each.more}".strip()


if __name__ == "__main__":
    main()
