"""One training or one generation in a process of its own, and then its peak memory: the process
that `measuring` starts.

Reads one JSON object from standard input, what to do, and writes one to standard output: the peak
of resident memory in bytes, as the kernel counts it for this program, mapped pages included.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import EntrenarError, NumericsError
from entrenar_core import lora, models
from entrenar_core.autograd import no_grad
from entrenar_core.data.batches import Batch
from entrenar_core.estimate.setup import in_few_bits
from entrenar_core.models.network import LanguageModel
from entrenar_core.optim import SGD, AdamW, Lion
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.process import keep_freed_memory
from entrenar_core.train.warm_up import load_kernels

OPTIMIZERS = {
    "adamw": AdamW,
    "adamw-8bit": lambda parameters: AdamW(parameters, state_bits=8),
    "lion": Lion,
    "sgd": SGD,
    "sgd-momentum": lambda parameters: SGD(parameters, momentum=0.9),
}
STEPS = 2
"""The second has the moments in memory when its activations are."""
NEW = 2
"""Tokens that are generated: one from the prompt, and one with the cache."""


def make(asked: dict[str, Any]) -> None:
    """Save a model of the config `asked["raw"]` with weights that are drawn."""
    models.save(models.from_config(asked["raw"], seed=0), Path(asked["folder"]))


def train(asked: dict[str, Any]) -> None:
    """Train as `TrainingLoop` does, on ids that are drawn."""
    model = _loaded(asked)
    if asked["method"] == "lora":
        rank, targets = asked["rank"], tuple(asked["targets"])
        lora.adapt(model, lora.LoraConfig(rank=rank, alpha=rank, target_modules=targets))
    model.recompute = asked["checkpointing"]
    objective = LanguageModelling(model)
    keep_freed_memory()
    optimizer = OPTIMIZERS[asked["optimizer"]](model.named_parameters())
    row = np.zeros((1, asked["seq_len"]), np.int64)
    load_kernels(objective, Batch(row, row, np.arange(1)), optimizer)
    shape = (asked["batch"], asked["seq_len"])
    random = np.random.default_rng(0)
    loss = None
    for _ in range(STEPS):
        optimizer.zero_grad()
        for _ in range(asked["accumulation"]):
            ids = random.integers(0, model.config.vocab_size, shape)
            labels = np.concatenate([ids[:, 1:], np.full((shape[0], 1), -100)], axis=1)
            batch = Batch(ids, labels, np.arange(shape[0]))
            loss = objective.loss(batch, ids.size * asked["accumulation"])
            loss.backward()
        optimizer.step(1e-4, max_norm=1.0)
    if loss is None or not np.isfinite(loss.item()):
        raise NumericsError("the loss is not finite", hint="measure another model")


def run(asked: dict[str, Any]) -> None:
    """Continue prompts of drawn ids until they are as long as asked; where the model generates no
    text, one pass over as many."""
    model = _loaded(asked)
    batch, length = asked["batch"], asked["seq_len"]
    random = np.random.default_rng(0)
    if isinstance(model, LanguageModel):
        # the last new token is not read again: the cache then holds `length` positions
        prompts = random.integers(0, model.config.vocab_size, (batch, max(1, length + 1 - NEW)))
        models.generate(model, list(prompts), max_new_tokens=NEW, eos_ids=())
        return
    with no_grad():
        model(random.integers(0, model.config.vocab_size, (batch, length)))


def _loaded(asked: dict[str, Any]) -> Any:
    """The model with its weights in the precision that is asked for."""
    folder, base = asked["folder"], asked["base"]
    few = in_few_bits(base)
    return models.load(folder, quantize=base) if few else models.load(folder, dtype=base)


def peak() -> int:
    """The largest resident size since this program was started; getrusage's also counts the parent
    that it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("no VmHWM in /proc/self/status")


TASKS = {"make": make, "train": train, "run": run}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; the peak, or an error as its code, message and hint."""
    try:
        TASKS[asked["task"]](asked)
    except EntrenarError as error:
        return {"error": error.code, "message": error.message, "hint": error.hint}
    return {"peak": peak()}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
