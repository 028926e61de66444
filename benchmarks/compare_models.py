"""Comparing the numbers of two models, beside a script that does it with PyTorch.

    python benchmarks/compare_models.py [--rounds 5] [--layers 12] [--targets] [--json]

Two models of 160 million parameters (12 layers, fewer with --layers) in bfloat16 and in the shape
of LLaMA, the second made from the first by noise, are made in a temporary folder. Then, in turns,
each a process of its own from its start to its end, with all files in the page cache:

- `entrenar-inspect compare --values`;
- a script that loads both with `safetensors.torch` and takes of each pair of tensors, in float32,
  the norm of the difference, that of the first, the cosine, the largest difference with its place,
  and the share of elements that differ.

The largest difference of both is compared. With `--targets`, exits with 1 when one is missed.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from merge_inputs import make_models
from turns import Side, benchmark, command_turn, in_turns

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core.environment import Environment, environment
from merge_models import SMALL

FASTER = 3.0
"""At least so many times the script's speed."""

NAMES = ("one", "other")
TOOL = (sys.executable, "-c", "from entrenar_inspect.cli import main; main()", "compare")
SCRIPT = """
import json, sys
import torch
from safetensors.torch import load_file
one, other = (load_file(name + "/model.safetensors") for name in sys.argv[1:])
found = {}
for name, a in one.items():
    x, y = a.float().flatten(), other[name].float().flatten()
    d = y - x
    largest = d.abs().max(0)
    norm = x.norm()
    found[name] = [
        (d.norm() / norm).item(), (x @ y / (norm * y.norm())).item(), largest.values.item(),
        largest.indices.item(), (x != y).float().mean().item(),
    ]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class CompareBench:
    """Both sides, with the machine that they were measured on; `agree`: whether both found the same
    largest differences at the same places."""

    date: str
    environment: Environment
    rounds: int
    layers: int
    ours: Side
    script: Side
    agree: bool

    @property
    def faster(self) -> float:
        return self.script.seconds / self.ours.seconds

    def passed(self) -> bool:
        """Whether the target is met."""
        return self.faster >= FASTER and self.agree

    def __view__(self) -> list[Any]:
        rows = [
            (side.name, f"{side.seconds:.2f} s", format_bytes(side.peak_bytes))
            for side in (self.script, self.ours)
        ]
        said = "the same largest differences" if self.agree else "OTHER LARGEST DIFFERENCES"
        return [
            Fields(
                f"Comparing two models in bfloat16, {self.layers} layers",
                [("date", self.date), ("CPU", self.environment.cpu), ("rounds", self.rounds)],
            ),
            Table(None, ("Side", "Seconds", "Peak memory"), rows),
            Text(f"entrenar is {self.faster:.1f} times as fast (≥ {FASTER:.0f}); {said}."),
        ]


def measured(folder: Path, layers: int, rounds: int, out: Output) -> CompareBench:
    """Both sides on models in `folder`."""
    out.note("making the models")
    make_models(folder, {**SMALL, "num_hidden_layers": layers}, NAMES)
    given = [str(folder / name) for name in NAMES]
    script = [sys.executable, "-c", SCRIPT, *given]
    compare = [*TOOL, *given, "--values", "--quiet"]
    agree = _found(compare) == _theirs(script)  # compiles, and fills the page cache
    sides = {
        # it ends with 1, since the models differ
        "entrenar": partial(command_turn, ["/bin/sh", "-c", '"$@" || [ $? = 1 ]', "sh", *compare]),
        "PyTorch": partial(command_turn, script),
    }
    ours, theirs = in_turns(sides, rounds=rounds, clear=lambda: None, out=out)
    date, machine = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), environment()
    return CompareBench(date, machine, rounds, layers, ours, theirs, agree)


def _found(command: list[str]) -> dict[str, float]:
    """By name, the largest difference as the tool finds it."""
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    tensors = json.loads(done.stdout)["data"]["tensors"]
    return {tensor["name"]: tensor["difference"]["largest"] for tensor in tensors}


def _theirs(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: found[2] for name, found in json.loads(done.stdout).items()}


if __name__ == "__main__":
    benchmark(__doc__, measured, schema="entrenar.benchmark.compare-models/1", layers=12, rounds=5)
