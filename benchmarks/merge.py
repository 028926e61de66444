"""Merging adapters into a model of 1.1 billion weights, beside PEFT and what the disk allows.

    python benchmarks/merge.py [--rounds 3] [--layers 22] [--targets] [--json]

A folder of bfloat16 weights in the shape of TinyLlama and an adapter of rank 16 on all projections
are made in a temporary folder (2.2 GB; fewer with --layers). Then, in turns, each in a process of
its own with all files in the page cache:

- entrenar merges the adapter into the folder;
- a script reads, hashes, writes and syncs the same bytes;
- PEFT loads the model and the adapter, merges and saves (left out where it is not installed).

Peak memory is that of the process. After that, at the shapes of LLaMA 7B: merging an adapter of
rank 64 in memory, block by block, and inspecting one in a file. With `--targets`, exits with 1 when
one is missed.
"""

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conversion import SHAPE, make_model
from turns import Side, benchmark, in_turns, turn

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core.environment import Environment, environment

FASTER_THAN_PEFT, OF_SCRIPT, MEMORY = 5.0, 0.7, 400e6
"""At least so many times PEFT's speed and so much of the script's, and at most so many bytes."""

IN_MEMORY, INSPECT = 5.0, 10.0
"""Seconds at most for q, k, v and o at 7B in memory, and for inspecting an adapter of all."""

ENTRENAR = """
from pathlib import Path
from entrenar_core.convert.merge import write_merged_model
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Weighted, changes
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter
with Base(Path(source)) as base, StoredAdapter(adapter) as found:
    write_merged_model(Merged(base, changes(base, [Weighted(found)])), Path(output))
"""

SCRIPT = """
import hashlib, os
from pathlib import Path
digest = hashlib.sha256()
os.mkdir(output)
fd = os.open(output + "/model.safetensors", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
buffer = bytearray(8 << 20)
for path in sorted(Path(source).glob("*.safetensors")):
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            part = memoryview(buffer)[:count]
            digest.update(part)
            os.write(fd, part)
os.fsync(fd)
"""

PEFT = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
merged.save_pretrained(output)
"""

SIDES = {"entrenar": ENTRENAR, "script": SCRIPT, "peft": PEFT}

SEVEN_B = {"q_proj": (4096, 4096), "k_proj": (4096, 4096), "v_proj": (4096, 4096),
           "o_proj": (4096, 4096), "gate_proj": (11008, 4096), "up_proj": (11008, 4096),
           "down_proj": (4096, 11008)}  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
BLOCKS, RANK = 32, 64


@dataclass(frozen=True)
class MergeBench:
    """All sides, with the machine that they were measured on; seconds at the shapes of 7B."""

    date: str
    environment: Environment
    weights: int
    nbytes: int
    rounds: int
    sides: tuple[Side, ...]
    attention_seconds: float
    all_seconds: float
    inspect_seconds: float

    def seconds(self, name: str) -> float:
        return next((side.seconds for side in self.sides if side.name == name), float("nan"))

    @property
    def of_script(self) -> float:
        return self.seconds("script") / self.seconds("entrenar")

    @property
    def faster_than_peft(self) -> float:
        return self.seconds("peft") / self.seconds("entrenar")

    def passed(self) -> bool:
        """Whether every target that was measured is met."""
        peak = next(side.peak_bytes for side in self.sides if side.name == "entrenar")
        slow = self.faster_than_peft < FASTER_THAN_PEFT  # not so where PEFT is not installed
        quick = self.attention_seconds <= IN_MEMORY and self.inspect_seconds <= INSPECT
        return self.of_script >= OF_SCRIPT and peak <= MEMORY and not slow and quick

    def __view__(self) -> list[Any]:
        rows = [(s.name, f"{s.seconds:.2f} s", format_bytes(s.peak_bytes)) for s in self.sides]
        return [
            Fields(
                "An adapter of rank 16 merged into a folder of bfloat16",
                [
                    ("date", self.date),
                    ("CPU", self.environment.cpu),
                    ("written", format_bytes(self.nbytes)),
                    ("rounds", self.rounds),
                ],
            ),
            Table(None, ("Side", "Time", "Peak memory"), rows),
            Text(
                f"{self.of_script:.0%} of the script's speed (at least {OF_SCRIPT:.0%}), "
                f"{self.faster_than_peft:.1f} times PEFT's (at least {FASTER_THAN_PEFT:.0f}); at "
                f"most {format_bytes(MEMORY)}"
            ),
            Fields(
                f"At the shapes of LLaMA 7B, rank {RANK}",
                [
                    ("q, k, v, o in memory", _of(self.attention_seconds, IN_MEMORY)),
                    ("all projections", f"{self.all_seconds:.2f} s"),
                    ("inspecting a file", _of(self.inspect_seconds, INSPECT)),
                ],
            ),
        ]


def _of(seconds: float, most: float) -> str:
    return f"{seconds:.2f} s (at most {most:.0f} s)"


def measure(folder: Path, layers: int, rounds: int, out: Output) -> MergeBench:
    source, adapter, output = folder / "model", folder / "adapter", folder / "merged"
    out.note("making the model")
    weights = make_model(source, layers)
    make_adapter(adapter, _projections(layers), rank=16)
    given = {"source": str(source), "adapter": str(adapter), "output": str(output)}
    turn(SIDES["entrenar"], given)  # compiles, and fills the page cache
    chosen = {
        name: partial(turn, code, given)
        for name, code in SIDES.items()
        if name != "peft" or find_spec("peft")
    }

    def clear() -> None:
        shutil.rmtree(output, ignore_errors=True)

    sides = in_turns(chosen, rounds=rounds, clear=clear, out=out)
    nbytes = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    clear()
    out.note("merging in memory")
    attention, everything = in_memory(ATTENTION), in_memory(tuple(SEVEN_B))
    out.note("inspecting")
    return MergeBench(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        environment=environment(),
        weights=weights,
        nbytes=nbytes,
        rounds=rounds,
        sides=sides,
        attention_seconds=attention,
        all_seconds=everything,
        inspect_seconds=inspecting(folder / "7b"),
    )


def _projections(layers: int) -> dict[str, tuple[int, int]]:
    """All projections of the model of `conversion`, with the shapes of their weights."""
    from entrenar_core import models

    shapes = models.parameter_shapes({**SHAPE, "num_hidden_layers": layers})
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in shapes.items()
        if name.endswith("_proj.weight")
    }


def make_adapter(folder: Path, shapes: dict[str, tuple[int, int]], *, rank: int) -> None:
    """Write an adapter of random numbers, as PEFT would."""
    import numpy as np

    from entrenar_core.lora import LoraConfig, PeftConfig, Update, content_of, write_adapter

    rng = np.random.default_rng(0)
    updates = {}
    for name, (outputs, inputs) in shapes.items():
        a = rng.standard_normal((rank, inputs), np.float32) * np.float32(inputs**-0.5)
        b = rng.standard_normal((outputs, rank), np.float32) * np.float32(0.01)
        updates[name] = Update(a, b, 2.0)
    ends = tuple(sorted({name.rpartition(".")[2] for name in shapes}))
    config = LoraConfig(rank=rank, alpha=2 * rank, target_modules=ends)
    write_adapter(folder, content_of(PeftConfig(config, task_type="CAUSAL_LM"), updates))


def in_memory(names: tuple[str, ...]) -> float:
    """Seconds that merging takes in all blocks, the weights of one block being in memory."""
    import ml_dtypes
    import numpy as np

    from entrenar_core.lora import Update

    rng = np.random.default_rng(0)
    weights, updates = {}, {}
    for name in names:
        outputs, inputs = SEVEN_B[name]
        row = rng.standard_normal(inputs, np.float32).astype(ml_dtypes.bfloat16)
        weights[name] = np.tile(row, (outputs, 1))
        a = rng.standard_normal((RANK, inputs), np.float32)
        updates[name] = Update(a, rng.standard_normal((outputs, RANK), np.float32), 0.01)
    updates[names[0]].merged(weights[names[0]], weights[names[0]])  # compiles
    begun = time.perf_counter()
    for _ in range(BLOCKS):
        for name in names:
            updates[name].merged(weights[name], weights[name], where=name)
    return time.perf_counter() - begun


def inspecting(folder: Path) -> float:
    """Seconds that inspecting an adapter on all projections takes."""
    from entrenar_core.lora import StoredAdapter
    from entrenar_core.lora.inspection import facts

    shapes = {
        f"model.layers.{block}.{name}": shape
        for block in range(BLOCKS)
        for name, shape in SEVEN_B.items()
    }
    make_adapter(folder, shapes, rank=RANK)
    begun = time.perf_counter()
    with StoredAdapter(folder) as adapter:
        facts(adapter)
    return time.perf_counter() - begun


if __name__ == "__main__":
    benchmark(__doc__, measure, schema="entrenar.benchmark.merge/1", layers=22, rounds=3)
