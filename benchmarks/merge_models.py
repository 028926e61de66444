"""Merging whole models, beside mergekit and beside what reading, hashing and writing takes.

    python benchmarks/merge_models.py [--mergekit PATH] [--rounds 3] [--layers 22] [--targets]
                                      [--only mergekit|disk] [--json]

A base and three models made from it by noise, in bfloat16 and in the shape of LLaMA, are made in a
temporary folder. Then, in turns, each a process of its own from its start to its end, with all
files in the page cache:

- at 160 million parameters, `entrenar-lora merge` and `mergekit-yaml` do the same merge by ties,
  dare_ties, slerp and linear (left out where there is no mergekit-yaml, which is looked for beside
  the running Python). What both wrote is compared: all elements but those that lie at the
  threshold of ties, of which more are equal than are kept. What dare_ties keeps is drawn, so it is
  not compared. For slerp, whose angle is off in mergekit's float32, mergekit merges once more in
  float64.
- at 1.1 billion parameters (9 GB, and 2 GB for the result; fewer with --layers), `entrenar-lora
  merge` merges by ties and linear, and a script reads and hashes the models, and writes, hashes
  and syncs as many bytes as the result has.

Peak memory is that of the process. With `--targets`, exits with 1 when one is missed.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from conversion import SHAPE
from merge_inputs import BASE, OTHERS, config_of, make_models, share_identical
from turns import Side, command_turn, in_turns

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core import models
from entrenar_core.environment import Environment, environment
from entrenar_core.io import files

SMALL = {**SHAPE, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "num_key_value_heads": 12}  # fmt: skip
FASTER = {"ties": 10.0, "dare_ties": 4.0, "slerp": 4.0, "linear": 4.0}
"""At least so many times mergekit's speed, by method."""

OF_SCRIPT, MEMORY, TENSORS = 0.6, 350e6, 3
"""At least so much of the script's speed, with at most so many bytes and so many of the largest
tensor."""

TOOL = (sys.executable, "-c", "from entrenar_lora.cli import main; main()")
SCRIPT = """
import hashlib, os, sys
output, size, *inputs = sys.argv[1:]
buffer, left = bytearray(8 << 20), int(size)
for name in inputs:
    digest = hashlib.sha256()
    with open(name, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
digest = hashlib.sha256()
os.mkdir(output)
fd = os.open(output + "/model.safetensors", os.O_WRONLY | os.O_CREAT)
while left:
    part = memoryview(buffer)[:min(left, len(buffer))]
    digest.update(part)
    left -= os.write(fd, part)
os.fsync(fd)
"""


@dataclass(frozen=True)
class BesideMergekit:
    """One method on both sides; `identical` is the share of elements that are the same in both
    results, None where they are drawn."""

    method: str
    ours: Side
    theirs: Side
    identical: float | None

    @property
    def faster(self) -> float:
        return self.theirs.seconds / self.ours.seconds

    def passed(self) -> bool:
        """Whether the target is met."""
        return self.faster >= FASTER[self.method]

    def row(self) -> tuple[str, ...]:
        """As a row of the table."""
        return (
            self.method,
            f"{self.theirs.seconds:.2f} s",
            f"{self.ours.seconds:.2f} s",
            f"{self.faster:.1f} (≥ {FASTER[self.method]:.0f})",
            f"{self.ours.peak_bytes / self.theirs.peak_bytes:.2f}",
            "drawn" if self.identical is None else f"{self.identical:.4%}",
        )


@dataclass(frozen=True)
class BesideDisk:
    """One method and the script; `most` are the bytes of memory that the merge may take."""

    method: str
    ours: Side
    script: Side
    most: float

    @property
    def of_script(self) -> float:
        return self.script.seconds / self.ours.seconds

    def passed(self) -> bool:
        """Whether the targets are met."""
        return self.of_script >= OF_SCRIPT and self.ours.peak_bytes <= self.most

    def row(self) -> tuple[str, ...]:
        """As a row of the table."""
        return (
            self.method,
            f"{self.script.seconds:.2f} s",
            f"{self.ours.seconds:.2f} s",
            f"{self.of_script:.0%} (≥ {OF_SCRIPT:.0%})",
            f"{format_bytes(self.ours.peak_bytes)} (≤ {format_bytes(self.most)})",
        )


@dataclass(frozen=True)
class MergeModelsBench:
    """All of it, with the machine that it was measured on; what was not measured is empty."""

    date: str
    environment: Environment
    rounds: int
    layers: int
    mergekit: tuple[BesideMergekit, ...]
    disk: tuple[BesideDisk, ...]

    def passed(self) -> bool:
        """Whether every target that was measured is met."""
        return all(found.passed() for found in (*self.mergekit, *self.disk))

    def __view__(self) -> list[Any]:
        view: list[Any] = [
            Fields(
                "Merging three models in bfloat16",
                [("date", self.date), ("CPU", self.environment.cpu), ("rounds", self.rounds)],
            )
        ]
        if self.mergekit:
            columns = ("Method", "mergekit", "entrenar", "Times as fast", "Memory", "Identical")
            rows = [found.row() for found in self.mergekit]
            caption = "Memory is entrenar's peak as a share of mergekit's."
            view.append(Table("160M parameters", columns, rows, caption))
        if self.disk:
            columns = ("Method", "Script", "entrenar", "Of its speed", "Peak memory")
            rows = [found.row() for found in self.disk]
            view.append(Table(f"1.1B parameters, {self.layers} of 22 layers", columns, rows))
        said = "All targets are met." if self.passed() else "Targets are missed."
        view.append(Text(said if self.mergekit or self.disk else "Nothing was measured."))
        return view


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    beside = Path(sys.executable).with_name("mergekit-yaml")
    parser.add_argument("--mergekit", type=Path, default=beside, help="path of mergekit-yaml")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--layers", type=int, default=22, help="blocks of the large models (22)")
    parser.add_argument("--only", choices=("mergekit", "disk"), help="one of the two parts")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    out = Output(json=options.json, quiet=options.quiet)
    mergekit: tuple[BesideMergekit, ...] = ()
    disk: tuple[BesideDisk, ...] = ()
    if options.only != "disk" and not options.mergekit.is_file():
        out.note(f"there is no {options.mergekit}: nothing is compared with mergekit")
    elif options.only != "disk":
        with tempfile.TemporaryDirectory() as folder:
            mergekit = beside_mergekit(Path(folder), options.mergekit, options.rounds, out)
    if options.only != "mergekit":
        with tempfile.TemporaryDirectory() as folder:
            disk = beside_disk(Path(folder), options.layers, options.rounds, out)
    date, machine = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), environment()
    report = MergeModelsBench(date, machine, options.rounds, options.layers, mergekit, disk)
    out.emit(report, "entrenar.benchmark.merge-models/1")
    sys.exit(1 if options.targets and not report.passed() else 0)


def beside_mergekit(
    folder: Path, program: Path, rounds: int, out: Output
) -> tuple[BesideMergekit, ...]:
    """All methods on both sides, at the small shape, in `folder`."""
    made(folder, SMALL, out)
    found = []
    for method in FASTER:
        out.note(method)
        config, ours = _merge(folder, method)
        output = folder / "mergekit"
        sides = {
            "entrenar": ours,
            "mergekit": partial(_fresh, output, [program, config, output, "--quiet"]),
        }
        ours()  # compiles, and fills the page cache
        if not found:
            sides["mergekit"]()
        one, other = in_turns(sides, rounds=rounds, clear=lambda: None, out=out)
        identical = None
        if method != "dare_ties":
            left_out = folder if method == "ties" else None
            identical = share_identical(folder / "entrenar", output, left_out)
        found.append(BesideMergekit(method, one, other, identical))
    return tuple(found)


def beside_disk(folder: Path, layers: int, rounds: int, out: Output) -> tuple[BesideDisk, ...]:
    """Two methods and the script, at the large shape, in `folder`."""
    shape = {**SHAPE, "num_hidden_layers": layers}
    largest = made(folder, shape, out)
    found = []
    for method in ("ties", "linear"):
        out.note(method)
        _, ours = _merge(folder, method)
        ours()  # compiles, and fills the page cache
        size = sum(path.stat().st_size for path in (folder / "entrenar").glob("*.safetensors"))
        read = [path for name in (*([BASE] if method == "ties" else []), *OTHERS)
                for path in sorted((folder / name).glob("*.safetensors"))]  # fmt: skip
        output = folder / "script"
        script = [sys.executable, "-c", SCRIPT, output, size, *read]
        sides = {"entrenar": ours, "script": partial(_fresh, output, script)}
        one, other = in_turns(sides, rounds=rounds, clear=lambda: None, out=out)
        found.append(BesideDisk(method, one, other, MEMORY + TENSORS * largest))
    return tuple(found)


def made(folder: Path, shape: Mapping[str, Any], out: Output) -> int:
    """Make the models; returns the bytes of the largest tensor."""
    sizes = [2 * prod(given) for given in models.parameter_shapes(shape).values()]
    needed = (len(OTHERS) + 3) * sum(sizes)  # the base, and two results
    if shutil.disk_usage(folder).free < needed:
        raise SystemExit(
            f"{format_bytes(needed)} are needed in {folder}: fewer with --layers, or set TMPDIR"
        )
    out.note(f"making the models: {format_bytes((len(OTHERS) + 1) * sum(sizes))}")
    make_models(folder, dict(shape))
    return max(sizes)


def _merge(folder: Path, method: str) -> tuple[Path, Any]:
    """The config of a merge, and what merges it by entrenar into a new folder `entrenar`."""
    config, output = folder / f"{method}.json", folder / "entrenar"
    files.write_json(config, config_of(method, folder))  # JSON is YAML
    merge = [*TOOL, "merge", "--config", config, "--output", output, "--quiet"]
    return config, partial(_fresh, output, merge)


def _fresh(output: Path, command: Sequence[Any]) -> dict[str, float]:
    """Run a command that makes the folder `output`."""
    shutil.rmtree(output, ignore_errors=True)
    return command_turn([str(word) for word in command])


if __name__ == "__main__":
    main()
