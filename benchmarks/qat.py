"""What training on stored weights brings: students in few bits, trained both ways.

    python benchmarks/qat.py [--student small] [--recipe q4_0] [--steps 1000] [--runs 3] [--json]

Each run distils a student twice, from the same start, on the same batches of the standard library
of this Python, for the same number of steps:

- as usual; then the student is written as a GGUF file by the recipe (quantized afterwards, PTQ);
- with `training.quantization.recipe`, from the middle of the run on (QAT).

All are measured on the same held-out documents, the files as they are read back. It is checked that
the file of the second student stands for the very numbers that a further step of its training
would compute with. Everything is as in examples/02_distill.yaml; `--student small` is smaller and
has shorter sequences, so that a run of some minutes is long enough for four bits to cost something.
Its teacher is trained first, unless `--teacher` names one; with `--student demo` it is the demo's.

Exits with 1 where the check fails; with `--targets`, also where training on stored weights was not
better in every run.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from entrenar_common.output import Output
from entrenar_common.progress import NullProgress
from entrenar_common.tables import Fields, Table, Text
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.environment import environment
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.quantization import quantized
from entrenar_distill import pipeline
from entrenar_distill.config import DistillConfig, resolve
from entrenar_distill.inputs import Inputs, read_inputs

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = Path("demo/teacher")
CAPTION = (
    "PTQ: trained as usual and quantized afterwards. QAT: trained on stored weights. Gain: PTQ "
    "minus QAT."
)
DOCUMENTS = 400
"""Files of the standard library that are read at most."""

VOCABULARY = 512
"""Of the small teacher, and so of its students."""

SMALL_TEACHER: Mapping[str, Mapping[str, Any]] = {
    "model": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3},
    "training": {"max_steps": 800, "learning_rate": 3e-3},
    "dataset": {"max_length": 64, "max_documents": DOCUMENTS},
}
"""What is changed in examples/01_pretrain.yaml."""

CHANGES: Mapping[str, Mapping[str, Any]] = {
    "demo": {},
    "small": {
        "student.config.hidden_size": 64,
        "student.config.intermediate_size": 192,
        "student.config.num_hidden_layers": 2,
        "dataset.max_length": 64,
        "training.learning_rate": 4e-3,
    },
}
"""What is changed in examples/02_distill.yaml for a student."""


@dataclass(frozen=True)
class Task:
    """What all runs have in common. recipe: that of the files; student: a name in `CHANGES`."""

    teacher: Path
    student: str
    recipe: str
    steps: int

    @property
    def begin(self) -> int:
        """The step from which on weights are rounded."""
        return self.steps // 2

    def configured(
        self, folder: Path, seed: int, given: Mapping[str, str] | None = None
    ) -> DistillConfig:
        """The configuration of a run with its output in `folder`, and with keys `given`."""
        keys = {
            "dataset.name": f"[{library()}]",
            "dataset.max_documents": DOCUMENTS,
            "training.seed": seed,
            "training.max_steps": self.steps,
            **CHANGES[self.student],
            **(given or {}),
        }
        return resolve(
            EXAMPLES / "02_distill.yaml",
            teacher=str(self.teacher),
            output=str(folder),
            control=False,
            overrides=[(key, str(value)) for key, value in keys.items()],
        )


@dataclass(frozen=True)
class Run:
    """The held-out losses of one run, in nats per token. same: whether the file of the student that
    was trained on stored weights has, to the bit, the weights of a further step."""

    number: int
    tokens: int
    whole: float
    afterwards: float
    trained: float
    same: bool

    @property
    def gain(self) -> float:
        """How much lower the loss is for training on stored weights."""
        return self.afterwards - self.trained


@dataclass(frozen=True)
class QatReport:
    """All runs, with what they were done with."""

    date: str
    cpu: str
    recipe: str
    teacher: str
    parameters: int
    steps: int
    begin: int
    runs: tuple[Run, ...]

    def better(self) -> bool:
        """Whether training on stored weights was better in every run."""
        return all(run.gain > 0 for run in self.runs)

    def __view__(self) -> list[Any]:
        rows = [
            (
                run.number,
                f"{run.tokens:,}",
                f"{run.whole:.4f}",
                f"{run.afterwards:.4f}",
                f"{run.trained:.4f}",
                f"{run.afterwards - run.whole:+.4f}",
                f"{run.trained - run.whole:+.4f}",
                f"{run.gain:+.4f}",
                "yes" if run.same else "NO",
            )
            for run in self.runs
        ]
        columns = (
            "Run",
            "Tokens",
            "Float",
            "PTQ",
            "QAT",
            "PTQ − float",
            "QAT − float",
            "Gain",
            "Same bits",
        )
        gains = [run.gain for run in self.runs]
        return [
            Fields(
                f"Students in {self.recipe}",
                [
                    ("date", self.date),
                    ("CPU", self.cpu),
                    ("teacher", self.teacher),
                    ("student", f"{self.parameters:,} parameters"),
                    ("steps", f"{self.steps}, on stored weights from {self.begin} on"),
                ],
            ),
            Table("Held-out loss, nats per token", columns, rows, caption=CAPTION),
            Text(f"The gain is {np.mean(gains):+.4f} on average, {min(gains):+.4f} at least."),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", default="q4_0", help="recipe of the GGUF files (q4_0)")
    parser.add_argument("--student", choices=CHANGES, default="small", help="its size (small)")
    parser.add_argument("--steps", type=int, default=1000, help="optimizer steps (1000)")
    parser.add_argument("--runs", type=int, default=3, help="runs, each with its own start (3)")
    parser.add_argument("--teacher", type=Path, help="folder of a teacher")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    out = Output(json=options.json, quiet=options.quiet)
    with tempfile.TemporaryDirectory() as folder:
        teacher = options.teacher or DEMO
        if options.teacher is None and options.student == "small":
            out.note("training a teacher")
            teacher = small_teacher(Path(folder))
        task = Task(teacher, options.student, options.recipe, options.steps)
        report = measure(Path(folder), task, options.runs, out)
    out.emit(report, "entrenar.benchmark.qat/1")
    failed = not all(run.same for run in report.runs) or (options.targets and not report.better())
    sys.exit(1 if failed else 0)


def small_teacher(folder: Path) -> Path:
    """A teacher that is trained in some minutes, by examples/01_pretrain.py."""
    config = yaml.safe_load((EXAMPLES / "01_pretrain.yaml").read_text("utf-8"))
    for section, changes in SMALL_TEACHER.items():
        config[section] |= changes
    config |= {"vocab_size": VOCABULARY, "output": str(folder / "teacher")}
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(config))
    script = [sys.executable, str(EXAMPLES / "01_pretrain.py"), "--quiet"]
    given = ["--config", str(folder / "pretrain.yaml"), "--data", library()]
    subprocess.run([*script, *given], check=True, stdout=subprocess.DEVNULL)
    return folder / "teacher"


def library() -> str:
    """A glob of the sources of this Python's standard library."""
    return f"{sysconfig.get_path('stdlib')}/**/*.py"


def measure(folder: Path, task: Task, runs: int, out: Output) -> QatReport:
    found: list[Run] = []
    stored = {
        "training.quantization.recipe": task.recipe,
        "training.quantization.schedule.begin": str(task.begin),
    }
    for number in range(runs):
        out.note(f"run {number + 1} of {runs}: as usual")
        usual = task.configured(folder / f"usual-{number}", number)
        pipeline.run(usual)
        out.note(f"run {number + 1} of {runs}: on stored weights")
        aware = task.configured(folder / f"stored-{number}", number, stored)
        pipeline.run(aware)
        inputs = read_inputs(aware, progress=NullProgress())
        found.append(compare(number + 1, inputs, Path(usual.output.dir), Path(aware.output.dir)))
    return QatReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=environment().cpu,
        recipe=task.recipe,
        teacher=f"{inputs.teacher.parameter_count():,} parameters",
        parameters=inputs.new_student().parameter_count(),
        steps=task.steps,
        begin=task.begin,
        runs=tuple(found),
    )


def compare(number: int, inputs: Inputs, usual: Path, aware: Path) -> Run:
    """The losses of the students in the folders `usual` and `aware`."""
    config = inputs.config.training.quantization
    assert config is not None
    export(usual, usual / "model.gguf", form="gguf", quantization=config.recipe)

    def loss(path: Path) -> float:
        return pipeline.held_out_loss(models.load(path), inputs, inputs.held_out)

    return Run(
        number=number,
        tokens=inputs.held_out.total_tokens,
        whole=loss(usual),
        afterwards=loss(usual / "model.gguf"),
        trained=loss(aware / "model.gguf"),
        same=has_the_bits_of_a_step(inputs, aware),
    )


def has_the_bits_of_a_step(inputs: Inputs, folder: Path) -> bool:
    """Whether the file in `folder` stands for what the step after the last would compute with."""
    training = inputs.config.training
    assert training.quantization is not None
    student, steps = inputs.new_student(), training.max_steps or 0
    newest = max((folder / "checkpoints" / pipeline.STUDENT).glob("step-*"))
    weights = CheckpointStore(newest.parent, run_id="").open(newest).tensors("model")
    for name, parameter in student.named_parameters().items():
        parameter.data[...] = weights[name]
    written = models.load(folder / "model.gguf").named_parameters()
    handle = quantized(student, training.quantization, seed=training.seed, steps=steps)
    with handle.active(steps):
        return all(
            getattr(owner, attribute).data.tobytes() == written[name].data.tobytes()
            for name, fake in handle.matrices.items()
            for owner, attribute in fake.matrix.places
        )


if __name__ == "__main__":
    main()
