"""What training on stored weights brings: students of the demo in few bits, trained both ways.

    python benchmarks/qat.py [--recipe q4_0] [--steps 240] [--runs 3] [--teacher DIR] [--json]

Each run distils the student of examples/02_distill.yaml twice, from the same start, on the same
batches of the standard library of this Python, for the same number of steps:

- as usual; then the student is written as a GGUF file by the recipe (quantized afterwards);
- with `training.quantization.recipe`, from the middle of the run on.

All are measured on the same held-out documents, the files as they are read back. It is checked that
the file of the second student stands for the very numbers that a further step of its training
would compute with. Without `--teacher`, and without the demo's, a small one is trained first. Exits
with 1 where the check fails; with `--targets`, where training on stored weights was not better in
every run.
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

SMALL_TEACHER: Mapping[str, Mapping[str, Any]] = {
    "model": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3},
    "training": {"max_steps": 300, "learning_rate": 2e-3},
}
"""What is changed in examples/01_pretrain.yaml."""


@dataclass(frozen=True)
class Run:
    """The held-out losses of one run, in nats per token. same: whether the file of the student that
    was trained on stored weights has, to the bit, the weights of a further step."""

    number: int
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
    tokens: int
    runs: tuple[Run, ...]

    def better(self) -> bool:
        """Whether training on stored weights was better in every run."""
        return all(run.gain > 0 for run in self.runs)

    def __view__(self) -> list[Any]:
        rows = [
            (
                run.number,
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
        columns = ("Run", "Float", "PTQ", "QAT", "PTQ − float", "QAT − float", "Gain", "Same bits")
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
                    ("held out", f"{self.tokens:,} tokens"),
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
    parser.add_argument("--steps", type=int, default=240, help="optimizer steps (240)")
    parser.add_argument("--runs", type=int, default=3, help="runs, each with its own start (3)")
    parser.add_argument("--teacher", type=Path, help=f"folder of a teacher ({DEMO})")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    out = Output(json=options.json, quiet=options.quiet)
    with tempfile.TemporaryDirectory() as folder:
        teacher = options.teacher or DEMO
        if options.teacher is None and not (DEMO / "config.json").exists():
            out.note("training a teacher")
            teacher = small_teacher(Path(folder))
        report = measure(Path(folder), teacher, options.recipe, options.steps, options.runs, out)
    out.emit(report, "entrenar.benchmark.qat/1")
    failed = not all(run.same for run in report.runs) or (options.targets and not report.better())
    sys.exit(1 if failed else 0)


def small_teacher(folder: Path) -> Path:
    """A teacher that is trained in some minutes, by examples/01_pretrain.py."""
    config = yaml.safe_load((EXAMPLES / "01_pretrain.yaml").read_text("utf-8"))
    for section, changes in SMALL_TEACHER.items():
        config[section] |= changes
    config |= {"vocab_size": 2048, "output": str(folder / "teacher")}
    config["dataset"]["max_documents"] = DOCUMENTS
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(config))
    script = [sys.executable, str(EXAMPLES / "01_pretrain.py"), "--quiet"]
    given = ["--config", str(folder / "pretrain.yaml"), "--data", library()]
    subprocess.run([*script, *given], check=True, stdout=subprocess.DEVNULL)
    return folder / "teacher"


def library() -> str:
    """A glob of the sources of this Python's standard library."""
    return f"{sysconfig.get_path('stdlib')}/**/*.py"


def measure(
    folder: Path, teacher: Path, recipe: str, steps: int, runs: int, out: Output
) -> QatReport:
    found: list[Run] = []
    begin = steps // 2
    for number in range(runs):
        given = [
            ("dataset.name", f"[{library()}]"),
            ("dataset.max_documents", str(DOCUMENTS)),
            ("training.seed", str(number)),
            ("training.max_steps", str(steps)),
        ]
        stored = [
            ("training.quantization.recipe", recipe),
            ("training.quantization.schedule.begin", str(begin)),
        ]
        out.note(f"run {number + 1} of {runs}: as usual")
        usual = configured(folder / f"usual-{number}", teacher, given)
        pipeline.run(usual)
        out.note(f"run {number + 1} of {runs}: on stored weights")
        aware = configured(folder / f"stored-{number}", teacher, [*given, *stored])
        pipeline.run(aware)
        inputs = read_inputs(aware, progress=NullProgress())
        found.append(compare(number + 1, inputs, Path(usual.output.dir), Path(aware.output.dir)))
    return QatReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=environment().cpu,
        recipe=recipe,
        teacher=f"{inputs.teacher.parameter_count():,} parameters",
        parameters=inputs.new_student().parameter_count(),
        steps=steps,
        begin=begin,
        tokens=inputs.held_out.total_tokens,
        runs=tuple(found),
    )


def configured(folder: Path, teacher: Path, given: list[tuple[str, str]]) -> DistillConfig:
    return resolve(
        EXAMPLES / "02_distill.yaml",
        teacher=str(teacher),
        output=str(folder),
        control=False,
        overrides=given,
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
