"""What distillation brings on the demo's corpus: paired seeds, at equal steps and at equal time.

    make demo
    python benchmarks/distillation_effect.py [--seeds 5] [--steps 400]

First the settings: each of a few is trained with one seed, and the one with the lowest loss on
what that seed holds back is chosen, for logits and for logits with layers and attention. Then the
chosen ones meet controls with fresh seeds: a seed decides what is held back, the student's first
weights and the order of the rows, and all arms of a seed share them. The last control takes as many
more steps as fit into the time that the distillation of the same seed took.

Needs scipy (it is in .venv-parity) and a trained demo/teacher.
"""

import argparse
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from entrenar_common.output import Output
from entrenar_common.progress import NullProgress
from entrenar_core.train.loop import TrainingLoop
from entrenar_distill.causal import CausalLM
from entrenar_distill.config import resolve
from entrenar_distill.task import CONTROL, STUDENT

CONFIG = Path(__file__).resolve().parent.parent / "examples" / "02_distill.yaml"
LAYERS = {
    "distillation.progressive.layer_mapping": "uniform",
    "distillation.attention.kind": "minilm",
}
LOGITS = [
    {"distillation.temperature": t, "distillation.alpha": a}
    for t, a in (("1.0", "0.5"), ("1.0", "0.9"), ("2.0", "0.9"))
]
WITH_LAYERS = [
    {"distillation.progressive.weight": w, "distillation.attention.weight": w}
    for w in ("0.1", "1.0")
]
CHOICE_SEED, FIRST_SEED = 1000, 1


@dataclass(frozen=True)
class Trained:
    """One model: its loss on what was held back, and the seconds that its steps took."""

    steps: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Effect:
    """One arm less another over the paired seeds, in nats per token.

    low, high: 95 % interval of the mean (paired t); each: the differences, in the order of seeds
    """

    arm: str
    against: str
    mean: float
    low: float
    high: float
    each: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What was chosen, what was trained, and what it shows."""

    chosen: Mapping[str, str]
    losses: Mapping[str, tuple[float, ...]]
    steps: Mapping[str, tuple[int, ...]]
    effects: tuple[Effect, ...]
    teacher: tuple[float, ...]


def main() -> None:
    options = _options()
    out = Output(json=options.json, quiet=options.quiet)
    logits = _best(LOGITS, options)
    layers = _best([{**logits, **LAYERS, **extra} for extra in WITH_LAYERS], options)
    arms: dict[str, list[Trained]] = {}
    teacher = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        inputs = _inputs(logits, seed, options)
        teacher.append(CausalLM().held_out_loss(inputs, inputs.teachers[0].model, None))
        distilled = _train(inputs, STUDENT, options.steps)
        control = _train(inputs, CONTROL, options.steps)
        longer = round(options.steps * distilled.seconds / control.seconds)
        of_seed = {
            "logits": distilled,
            "control": control,
            "control of equal time": _train(inputs, CONTROL, longer),
            "logits, layers, attention": _train(
                _inputs(layers, seed, options), STUDENT, options.steps
            ),
        }
        for name, trained in of_seed.items():
            arms.setdefault(name, []).append(trained)
        print(_line(seed, of_seed), file=sys.stderr, flush=True)
    out.emit(_report(arms, teacher, logits, layers), "entrenar.benchmark.distillation-effect/1")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--teacher", default="demo/teacher", help="folder that make demo writes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


def _inputs(settings: Mapping[str, str], seed: int, options: argparse.Namespace) -> Any:
    library = sysconfig.get_path("stdlib")
    overrides = [
        *settings.items(),
        ("training.seed", str(seed)),
        ("training.max_steps", str(options.steps)),
        ("dataset.name", f"[{library}/**/*.py]"),
    ]
    config = resolve(CONFIG, teacher=options.teacher, overrides=overrides)
    return CausalLM().read_inputs(config, progress=NullProgress())


def _train(inputs: Any, phase: str, steps: int) -> Trained:
    task, model = CausalLM(), inputs.new_student()
    objective = task.objective(inputs, phase, model)
    training = inputs.config.training.model_copy(update={"max_steps": steps})
    loop = TrainingLoop(
        model, objective, inputs.batches, training, phase=phase, metrics=None, store=None,
        checkpoint_every=steps,
    )  # fmt: skip
    started = time.process_time()  # of all threads: other work on the machine does not count
    loop.fit()
    seconds = time.process_time() - started
    return Trained(steps, task.held_out_loss(inputs, model, objective), seconds)


def _best(choices: Sequence[Mapping[str, str]], options: argparse.Namespace) -> Mapping[str, str]:
    """The settings with the lowest loss on what the seed of the choice holds back."""
    found = []
    for settings in choices:
        trained = _train(_inputs(settings, CHOICE_SEED, options), STUDENT, options.steps)
        found.append((trained.loss, settings))
        print(f"{trained.loss:.4f}  {_words(settings)}", file=sys.stderr, flush=True)
    return min(found, key=lambda pair: pair[0])[1]


def _report(
    arms: Mapping[str, Sequence[Trained]],
    teacher: Sequence[float],
    logits: Mapping[str, str],
    layers: Mapping[str, str],
) -> Report:
    pairs = (
        ("logits", "control"),
        ("logits", "control of equal time"),
        ("logits, layers, attention", "control"),
        ("logits, layers, attention", "logits"),
    )
    return Report(
        chosen={"logits": _words(logits), "logits, layers, attention": _words(layers)},
        losses={name: tuple(t.loss for t in found) for name, found in arms.items()},
        steps={name: tuple(t.steps for t in found) for name, found in arms.items()},
        effects=tuple(_effect(arms, *pair) for pair in pairs),
        teacher=tuple(teacher),
    )


def _effect(arms: Mapping[str, Sequence[Trained]], arm: str, against: str) -> Effect:
    each = np.array([a.loss - b.loss for a, b in zip(arms[arm], arms[against], strict=True)])
    mean, error = float(each.mean()), float(stats.sem(each))
    low, high = stats.t.interval(0.95, len(each) - 1, loc=mean, scale=error)
    return Effect(arm, against, mean, float(low), float(high), tuple(map(float, each)))


def _words(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{key.removeprefix('distillation.')} {v}" for key, v in settings.items())


def _line(seed: int, of_seed: Mapping[str, Trained]) -> str:
    said = (
        f"{name} {t.loss:.4f} ({t.steps} steps, {t.seconds:.0f} s)" for name, t in of_seed.items()
    )
    return f"seed {seed}: " + "; ".join(said)


if __name__ == "__main__":
    main()
