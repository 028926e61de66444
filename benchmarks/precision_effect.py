"""What bfloat16 products change: the same training in both precisions, from the same start.

    python benchmarks/precision_effect.py [--config 24M] [--seeds 0 1 2] [--steps 300] [--noise]

A tokenizer is trained on the standard library of the running Python, once. For each seed, which
decides what is held back, the first weights and the order of the rows, one model is trained with
float32 products and one with bfloat16 products. Both are evaluated in float32 on what is held back.
Of the first step the gradients of both are compared, tensor by tensor. With --noise a third model
is trained with float32 products from first weights that are off by up to one unit in the last
place: how far float32 ends from itself. All sizes learn from the same batches of 8 rows: with 2 a
step, sums in another order have moved the 134M's loss by 0.2 %. Exits with 1 where a loss is
more than 0.3 % apart, or a cosine is below 0.999.
"""

import argparse
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from training_step import SHAPES, WHOLE

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_core import models
from entrenar_core.autograd.precision import multiplied_in
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import split
from entrenar_core.data.sources import iter_documents
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokens import TokenizedDocuments, tokenize
from entrenar_core.environment import Environment, environment
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.objective import LanguageModelling
from entrenar_distill.config import DatasetConfig
from entrenar_distill.inputs import dataset_spec

VOCABULARY = 32_000
HELD_OUT = 0.02
APART, COSINE = 0.003, 0.999
TRAINING = {"warmup_steps": 30, "weight_decay": 0.1}
BATCH_SIZE, SEQ_LEN = 8, 256
CAUSAL = [name for name in WHOLE if SHAPES[name].architecture != "bert"]
LEARNING_RATE, AT_WIDTH = 6e-4, 288
"""The 24M model's; a wider one's is as much smaller as it is wider, as Yang et al. 2022 have it for
Adam (arXiv:2203.03466)."""


@dataclass(frozen=True)
class Pair:
    """Two trainings with one seed: their losses on what is held back, the seconds of their steps,
    and the lowest cosine of the two gradients of a tensor at the first step; `moved`: the loss of a
    third with float32 products, from weights off by a unit in the last place."""

    seed: int
    float32: float
    bf16: float
    float32_seconds: float
    bf16_seconds: float
    cosine: float
    tensor: str
    moved: float | None

    @property
    def apart(self) -> float:
        """By how much the second loss is above the first, as a share of it."""
        return self.bf16 / self.float32 - 1


@dataclass(frozen=True)
class Effect:
    config: str
    parameters: int
    steps: int
    tokens_per_step: int
    pairs: Sequence[Pair]
    machine: Environment

    @property
    def holds(self) -> bool:
        return all(abs(p.apart) <= APART and p.cosine > COSINE for p in self.pairs)

    def __view__(self) -> list[Any]:
        rows = [
            (
                str(p.seed), f"{p.float32:.4f}", f"{p.bf16:.4f}", f"{100 * p.apart:+.3f} %",
                f"{p.cosine:.6f}", f"{p.float32_seconds / p.bf16_seconds:.2f}x",
            )
            for p in self.pairs
        ]  # fmt: skip
        said = f"{'Within' if self.holds else 'NOT within'} {100 * APART:.1f} %, cosines above"
        moved = [100 * (p.moved / p.float32 - 1) for p in self.pairs if p.moved is not None]
        noise = "float32 from weights moved by a last place: " + ", ".join(
            f"{m:+.3f} %" for m in moved
        )
        return [
            Fields(
                None,
                (
                    ("model", f"{self.config}, {self.parameters:,} parameters"),
                    ("steps", f"{self.steps} of {self.tokens_per_step} tokens"),
                    ("machine", self.machine.cpu),
                ),
            ),
            Table(
                "Loss on what is held back",
                ("seed", "float32", "bf16", "apart", "least cosine", "time"),
                rows,
            ),
            Text(f"{said} {COSINE}; on average {100 * mean(p.apart for p in self.pairs):+.3f} %."),
            *([Text(noise)] if moved else []),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", choices=CAUSAL, default="24M")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out = Output(json=options.json)
    with tempfile.TemporaryDirectory() as folder:
        documents, tokenizer = _corpus(Path(folder), out)
        pairs = []
        for seed in options.seeds:
            pairs.append(_pair(options, seed, documents, tokenizer))
            out.note(f"seed {seed}: {100 * pairs[-1].apart:+.3f} %")
    raw = _raw(options.config, tokenizer)
    effect = Effect(
        options.config, models.parameter_count(raw), options.steps, BATCH_SIZE * SEQ_LEN,
        pairs, environment(),
    )  # fmt: skip
    out.emit(effect, "entrenar.benchmark.precision-effect/1")
    sys.exit(0 if effect.holds else 1)


def _corpus(folder: Path, out: Output) -> tuple[TokenizedDocuments, Tokenizer]:
    library = sysconfig.get_path("stdlib")
    section = DatasetConfig.model_validate(
        {
            "name": f"{library}/**/*.py",
            "exclude": ["test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"],
        }
    )
    spec = dataset_spec(section)
    texts = (document.text for document in iter_documents(spec))
    train_bpe(texts, VOCABULARY, progress=out.progress()).save(folder)
    tokenizer = Tokenizer.load(folder)
    return tokenize(spec, tokenizer, progress=out.progress()), tokenizer


def _raw(config: str, tokenizer: Tokenizer) -> dict[str, Any]:
    keys = SHAPES[config].config()
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_id}
    return {
        "model_type": SHAPES[config].architecture, **keys, **special,
        "vocab_size": tokenizer.vocab_size,
    }  # fmt: skip


def _pair(options: Any, seed: int, documents: TokenizedDocuments, tokenizer: Tokenizer) -> Pair:
    parts = split(documents, HELD_OUT, seed)
    float32 = _training(options, seed, parts, tokenizer, "fp32")
    bf16 = _training(options, seed, parts, tokenizer, "bf16")
    moved = None
    if options.noise:
        moved = _training(options, seed, parts, tokenizer, "fp32", moved=True).loss
    cosines = {n: _cosine(g, bf16.gradients[n]) for n, g in float32.gradients.items()}
    worst = min(cosines, key=lambda name: cosines[name])
    return Pair(
        seed, float32.loss, bf16.loss, float32.seconds, bf16.seconds, cosines[worst], worst, moved
    )


@dataclass(frozen=True)
class Training:
    """The loss on what is held back, the seconds of the steps, the gradients of the first one."""

    loss: float
    seconds: float
    gradients: dict[str, np.ndarray]


def _training(
    options: Any, seed: int, parts: tuple[TokenizedDocuments, TokenizedDocuments],
    tokenizer: Tokenizer, precision: str, *, moved: bool = False,
) -> Training:  # fmt: skip
    train, held_out = parts
    model = models.from_config(_raw(options.config, tokenizer), seed=seed)
    if moved:
        _move(model, seed)
    batches = Batches(
        train, seq_len=SEQ_LEN, batch_size=BATCH_SIZE, seed=seed,
        eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    rate = LEARNING_RATE * AT_WIDTH / SHAPES[options.config].hidden
    settings = {**TRAINING, "learning_rate": rate, "max_steps": options.steps, "seed": seed}
    config = TrainingConfig.model_validate({**settings, "mixed_precision": precision})
    loop = TrainingLoop(
        model, LanguageModelling(model), batches, config, phase="both", metrics=None, store=None,
        checkpoint_every=options.steps,
    )  # fmt: skip
    gradients = _first_gradients(loop, model)
    begun = time.perf_counter()
    loop.fit()
    seconds = time.perf_counter() - begun
    scores = score(
        {"model": model}, held_out, seq_len=SEQ_LEN, batch_size=BATCH_SIZE,
        eos_id=tokenizer.eos_id,
    )  # fmt: skip
    return Training(scores["model"].loss, seconds, gradients)


def _move(model: Any, seed: int) -> None:
    """Each weight up or down by one unit in its last place, or not."""
    rng = np.random.default_rng(seed)
    for parameter in model.named_parameters().values():
        data = parameter.data
        toward = rng.choice(np.array([-np.inf, 0, np.inf], np.float32), data.shape)
        data[...] = np.where(toward == 0, data, np.nextafter(data, toward))


def _first_gradients(loop: TrainingLoop, model: Any) -> dict[str, np.ndarray]:
    """Of the loop's first step, which is not taken."""
    batch = loop.batches.batch(0)
    loop.optimizer.zero_grad()
    with multiplied_in(loop.config.products):
        loop.objective.begin(0, [batch])
        loop.objective.loss(batch, batch.targets).backward()
    loop.objective.parts()
    found = {name: p.grad.copy() for name, p in model.named_parameters().items()}
    loop.optimizer.zero_grad()
    return found


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


if __name__ == "__main__":
    main()
