"""One training in a process of its own, for `memory.py`: two steps, and then its peak memory.

Reads one JSON object from standard input, a configuration, and writes one to standard output: the
peak of resident memory in bytes, as the kernel counts it for this program, mapped pages included.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_core import lora, models
from entrenar_core.data.batches import Batch
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


def main() -> None:
    """Do what is asked: make a model's folder, or train."""
    asked = json.load(sys.stdin)
    if "make" in asked:
        models.save(models.from_config(asked["make"], seed=0), Path(asked["folder"]))
        json.dump({}, sys.stdout)
        return
    train(asked)
    json.dump({"peak": peak()}, sys.stdout)


def train(asked: dict[str, Any]) -> None:
    """Train as `Trainer` does, on ids that are drawn."""
    model = models.load(asked["folder"], **_held(asked["base"]))
    if asked["method"] == "lora":
        targets = asked["targets"]
        chosen = targets[0] if targets == ["all-linear"] else tuple(targets)
        settings = lora.LoraConfig(rank=asked["rank"], alpha=asked["rank"], target_modules=chosen)
        lora.adapt(model, settings)
    model.recompute = asked["checkpointing"]
    objective = LanguageModelling(model)
    keep_freed_memory()
    optimizer = OPTIMIZERS[asked["optimizer"]](model.named_parameters())
    row = np.zeros((1, asked["seq_len"]), np.int64)
    load_kernels(objective, Batch(row, row, np.arange(1)), optimizer)
    shape, vocabulary = (asked["batch"], asked["seq_len"]), model.config.vocab_size
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for _ in range(asked["accumulation"]):
            ids = random.integers(0, vocabulary, shape)
            labels = np.concatenate([ids[:, 1:], np.full((shape[0], 1), -100)], axis=1)
            batch = Batch(ids, labels, np.arange(shape[0]))
            loss = objective.loss(batch, ids.size * asked["accumulation"])
            loss.backward()
        optimizer.step(1e-4, max_norm=1.0)
    if not np.isfinite(loss.item()):
        raise SystemExit("the loss is not finite")


def _held(base: str) -> dict[str, str]:
    """What `models.load` is told for a base of some precision."""
    return {"dtype": base} if base in ("float32", "bfloat16") else {"quantize": base}


def peak() -> int:
    """The largest resident size since this program was started; getrusage's also counts the parent
    that it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("no VmHWM in /proc/self/status: this benchmark needs Linux")


if __name__ == "__main__":
    main()
