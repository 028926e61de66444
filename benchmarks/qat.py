"""What training on stored weights brings: students in few bits, trained both ways.

    python benchmarks/qat.py [--student small] [--formats q4_0 int3] [--steps 1000] [--runs 3]

Each run distils a student from the same start, on the same batches of the standard library of this
Python, for the same number of steps:

- as usual; then its matrices are stored in a format, or as a recipe of GGUF files says (quantized
  afterwards, PTQ);
- for each format, with `training.quantization` in the last fifth of the run (QAT).

All are measured on the same held-out documents, as they are read back. It is checked that the
second student has the very numbers that a further step of its training would compute with.
Everything is as in examples/02_distill.yaml, but the learning rate ends at 0; `--student small` is
smaller and has shorter sequences, so that a run of some minutes is long enough for few bits to cost
something. Its teacher is trained first, unless `--teacher` names one; with `--student demo` it is
the demo's.

Exits with 1 where the check fails; with `--targets`, also where training on stored weights was not
better in every run.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from entrenar_common.output import Output
from entrenar_common.progress import NullProgress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_count
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.convert.recipe import RECIPES
from entrenar_core.environment import environment
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.quantization import quantized
from entrenar_distill import pipeline
from entrenar_distill.causal import held_out_loss
from entrenar_distill.config import DistillConfig, resolve
from entrenar_distill.inputs import Inputs, read_inputs
from entrenar_distill.task import STUDENT

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = Path("demo/teacher")
CAPTION = (
    "PTQ: trained as usual and quantized afterwards, compared with float. QAT: trained on stored "
    "weights, compared with float. Gain: the difference."
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
    "demo": {"training.min_learning_rate_ratio": 0.0},
    "small": {
        "training.min_learning_rate_ratio": 0.0,
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
    """What all runs have in common; `student` is a name in `CHANGES`."""

    teacher: Path
    student: str
    steps: int

    @property
    def begin(self) -> int:
        """The step from which on weights are rounded."""
        return self.steps * 4 // 5

    def configured(self, folder: Path, seed: int, form: str | None = None) -> DistillConfig:
        """The configuration of a run with its output in `folder`, for `form` if there is one."""
        section, stored = "training.quantization", {}
        if form is not None:
            key = "recipe" if form in RECIPES else "weights"
            stored = {f"{section}.{key}": form, f"{section}.schedule.begin": self.begin}
        keys = {
            "dataset.name": f"[{library()}]",
            "dataset.max_documents": DOCUMENTS,
            "training.seed": seed,
            "training.max_steps": self.steps,
            **CHANGES[self.student],
            **stored,
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
    """The held-out losses of one run in one format, in nats per token. same: whether the student
    that was trained on stored weights has, to the bit, the weights of a further step."""

    number: int
    form: str
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
                run.form,
                run.number,
                format_count(run.tokens),
                f"{run.whole:.4f}",
                f"{run.afterwards - run.whole:+.4f}",
                f"{run.trained - run.whole:+.4f}",
                f"{run.gain:+.4f}",
                "yes" if run.same else "NO",
            )
            for run in self.runs
        ]
        columns = ("Format", "Run", "Tokens", "Float", "PTQ", "QAT", "Gain", "Same bits")
        return [
            Fields(
                "Students in few bits",
                [
                    ("date", self.date),
                    ("CPU", self.cpu),
                    ("teacher", self.teacher),
                    ("student", f"{self.parameters:,} parameters"),
                    ("steps", f"{self.steps}, on stored weights from {self.begin} on"),
                ],
            ),
            Table("Held-out loss, nats per token", columns, rows, caption=CAPTION),
            *(self._summary(form) for form in dict.fromkeys(run.form for run in self.runs)),
        ]

    def _summary(self, form: str) -> Text:
        gains = [run.gain for run in self.runs if run.form == form]
        mean = sum(gains) / len(gains)
        return Text(f"{form}: the gain is {mean:+.4f} on average, {min(gains):+.4f} at least.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--formats", nargs="+", default=["q4_0", "int3"], help="recipes and formats (q4_0 int3)"
    )
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
        task = Task(teacher, options.student, options.steps)
        report = measure(Path(folder), task, options.formats, options.runs, out)
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


def measure(folder: Path, task: Task, forms: Sequence[str], runs: int, out: Output) -> QatReport:
    found: list[Run] = []
    for number in range(runs):
        out.note(f"run {number + 1} of {runs}: as usual")
        usual = task.configured(folder / f"usual-{number}", number)
        pipeline.run(usual)
        for form in forms:
            out.note(f"run {number + 1} of {runs}: {form}")
            aware = task.configured(folder / f"{form}-{number}", number, form)
            pipeline.run(aware)
            inputs = read_inputs(aware, progress=NullProgress())
            found.append(compare(number + 1, form, inputs, Path(usual.output.dir)))
            out.note(str(found[-1]))
    return QatReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=environment().cpu,
        teacher=f"{inputs.teacher.parameter_count():,} parameters",
        parameters=inputs.new_student().parameter_count(),
        steps=task.steps,
        begin=task.begin,
        runs=tuple(found),
    )


def compare(number: int, form: str, inputs: Inputs, usual: Path) -> Run:
    """The losses of the student of `inputs`, and of that in the folder `usual`."""
    aware = Path(inputs.config.output.dir)

    def loss(model: Any) -> float:
        return held_out_loss(model, inputs, inputs.held_out)

    return Run(
        number=number,
        form=form,
        tokens=inputs.held_out.total_tokens,
        whole=loss(models.load(usual)),
        afterwards=loss(quantized_afterwards(inputs, usual)),
        trained=loss(models.load(written(aware))),
        same=has_the_bits_of_a_step(inputs, aware),
    )


def quantized_afterwards(inputs: Inputs, folder: Path) -> Any:
    """The model in `folder`, read from the GGUF file of a recipe, or with weights as stored."""
    training = inputs.config.training
    config, steps = training.quantization, training.max_steps or 0
    assert config is not None
    if config.recipe is not None:
        output = folder / f"{config.recipe}.gguf"
        export(folder, output, form="gguf", quantization=config.recipe)
        return models.load(output)
    model = models.load(folder)
    quantized(model, config, seed=training.seed, steps=steps).finish()
    return model


def written(folder: Path) -> Path:
    """The GGUF file in `folder`, or the folder where it has none."""
    file = folder / "model.gguf"
    return file if file.exists() else folder


def has_the_bits_of_a_step(inputs: Inputs, folder: Path) -> bool:
    """Whether what is in `folder` is what the step after the last would compute with."""
    training = inputs.config.training
    assert training.quantization is not None
    student, steps = inputs.new_student(), training.max_steps or 0
    newest = max((folder / "checkpoints" / STUDENT).glob("step-*"))
    weights = CheckpointStore(newest.parent, run_id="").open(newest).tensors("model")
    for name, parameter in student.named_parameters().items():
        parameter.data[...] = weights[name]
    found = models.load(written(folder)).named_parameters()
    handle = quantized(student, training.quantization, seed=training.seed, steps=steps)
    with handle.active(steps):
        return all(
            getattr(owner, attribute).data.tobytes() == found[name].data.tobytes()
            for name, fake in handle.matrices.items()
            for owner, attribute in fake.matrix.places
        )


if __name__ == "__main__":
    main()
