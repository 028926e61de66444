"""What entrenar-inspect takes, beside other programs that look at the same files.

    python benchmarks/inspect_models.py [--rounds 5] [--gigabytes 4] [--only TEXT] [--targets]
                                        [--json]

Every turn is a process of its own, from its start to its end; the sides take turns, and medians are
compared.

- `info` of a safetensors file of 13 GB (nearly all of it a hole in the file system) beside a script
  that lists its tensors with `safetensors`, and of a GGUF file with 152,000 tokens beside
  gguf-dump.
- `validate` and `layers --stats`, which read every number of a bfloat16 model, beside a script that
  reads the file and does nothing with it: with the file in the page cache, and from the disk.

`compare --values` has a script of its own, compare_models.py.

With `--targets`, exits with 1 when one is missed.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from gguf_open import write_large, write_vocabulary
from turns import Side, command_turn, in_turns, turn

from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core.environment import Environment, environment
from entrenar_core.io.safetensors import write_file

TOOL = (sys.executable, "-c", "from entrenar_inspect.cli import main; main()")
WIDTH = 8192
INFO_SAFETENSORS, INFO_GGUF = 0.25, 0.3
CACHED, OF_DISK = 4e9, 0.8
"""Bytes of a second, and share of the reading script's speed."""

LIST = """
from safetensors import safe_open
with safe_open(path, "numpy") as file:
    for name in file.keys():
        one = file.get_slice(name)
        f"{name} {one.get_dtype()} {one.get_shape()}"
"""

READ = """
import os
buffer, fd, place = bytearray(8 << 20), os.open(path, os.O_RDONLY), 0
while count := os.preadv(fd, [buffer], place):
    place += count
"""


@dataclass(frozen=True)
class Case:
    """One command and its peer; `target` in words, `met` or not."""

    name: str
    ours: Side
    peer: Side
    figure: str
    target: str
    met: bool

    def row(self) -> tuple[Any, ...]:
        """As a row of the table."""
        style = "good" if self.met else "bad"
        return (
            self.name,
            f"{self.ours.seconds:.3f} s",
            f"{self.peer.name}: {self.peer.seconds:.3f} s",
            Text(self.figure, style),
            self.target,
        )


@dataclass(frozen=True)
class InspectBench:
    """All of it, with the machine that it was measured on."""

    when: str
    environment: Environment
    rounds: int
    gigabytes: float
    cases: tuple[Case, ...]

    def missed(self) -> list[str]:
        """The targets that are missed, in words."""
        return [f"{c.name}: {c.figure}, wanted {c.target}" for c in self.cases if not c.met]

    def __view__(self) -> Iterator[Any]:
        yield Fields(None, [("when", self.when), ("cpu", self.environment.cpu)])
        columns = ("", "entrenar-inspect", "beside", "", "wanted")
        caption = f"medians of {self.rounds} turns, whole processes"
        yield Table("Looking into files", columns, [c.row() for c in self.cases], caption)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--gigabytes", type=float, default=4, help="of the model that is read (4)")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    options = parser.parse_args()
    if importlib.util.find_spec("gguf") is None:
        sys.exit("inspect_models.py needs the package gguf: make .venv-parity/.installed")
    out = Output(json=options.json)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.rounds, out)
        cases = [
            case
            for name, make in bench.cases(int(options.gigabytes * 1e9)).items()
            if options.only in name
            for case in [make(name)]
        ]
    report = InspectBench(
        datetime.now(UTC).isoformat(timespec="seconds"),
        environment(),
        options.rounds,
        options.gigabytes,
        tuple(cases),
    )
    out.emit(report, "entrenar.benchmark.inspect/1")
    sys.exit(1 if options.targets and report.missed() else 0)


@dataclass(frozen=True)
class Bench:
    """Files in a folder, and what is done with them."""

    folder: Path
    rounds: int
    out: Output

    def cases(self, nbytes: int) -> Mapping[str, Callable[[str], Case]]:
        return {
            "info, safetensors of 13 GB": self.info_safetensors,
            "info, GGUF with 152,000 tokens": self.info_gguf,
            "layers --stats, cached": partial(self.cached, ("layers", "--stats"), nbytes),
            "validate, cached": partial(self.cached, ("validate",), nbytes),
            "layers --stats, from disk": partial(self.disk, ("layers", "--stats"), nbytes),
            "validate, from disk": partial(self.disk, ("validate",), nbytes),
        }

    def info_safetensors(self, name: str) -> Case:
        path = self.folder / "large.safetensors"
        write_large(path)
        ours, peer = self._sides(
            partial(command_turn, (*TOOL, "info", str(path))),
            "safetensors",
            partial(turn, LIST, {"path": str(path)}),
        )
        return _within(name, ours, peer, INFO_SAFETENSORS)

    def info_gguf(self, name: str) -> Case:
        path = self.folder / "vocabulary.gguf"
        write_vocabulary(path)
        dump = (sys.executable, "-m", "gguf.scripts.gguf_dump", "--no-tensors", str(path))
        ours, peer = self._sides(
            partial(command_turn, (*TOOL, "info", str(path))),
            "gguf-dump",
            partial(command_turn, dump),
        )
        return _within(name, ours, peer, INFO_GGUF)

    def cached(self, command: tuple[str, ...], nbytes: int, name: str) -> Case:
        path = self._model(nbytes)
        ours, peer = self._sides(
            partial(command_turn, (*TOOL, command[0], str(path), *command[1:], "-q")),
            "reading",
            partial(turn, READ, {"path": str(path)}),
        )
        rate = path.stat().st_size / ours.seconds
        wanted = f"{format_bytes(CACHED)}/s"
        return Case(name, ours, peer, f"{format_bytes(rate)}/s", wanted, rate >= CACHED)

    def disk(self, command: tuple[str, ...], nbytes: int, name: str) -> Case:
        path = self._model(nbytes)
        ours, peer = self._sides(
            partial(command_turn, (*TOOL, command[0], str(path), *command[1:], "-q")),
            "reading",
            partial(turn, READ, {"path": str(path)}),
            clear=partial(_forget, path),
        )
        share = peer.seconds / ours.seconds
        return Case(name, ours, peer, f"{share:.0%} of it", f"{OF_DISK:.0%}", share >= OF_DISK)

    def _sides(
        self,
        ours: Callable[[], Mapping[str, float]],
        peer_name: str,
        peer: Callable[[], Mapping[str, float]],
        clear: Callable[[], None] = lambda: None,
    ) -> tuple[Side, Side]:
        ours()  # what is compiled once is compiled, and files are in the page cache
        sides = {"entrenar-inspect": ours, peer_name: peer}
        one, two = in_turns(sides, rounds=self.rounds, clear=clear, out=self.out)
        return one, two

    def _model(self, nbytes: int) -> Path:
        """A bfloat16 model of matrices of one size, of about so many bytes."""
        path = self.folder / "model.safetensors"
        if path.exists():
            return path
        block = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), np.float32)
        narrow = (block * 0.02).astype(ml_dtypes.bfloat16)
        count = max(nbytes // narrow.nbytes, 1)
        write_file(path, {f"model.layers.{i}.mlp.up_proj.weight": narrow for i in range(count)})
        return path


def _within(name: str, ours: Side, peer: Side, limit: float) -> Case:
    faster = f"{peer.seconds / ours.seconds:.1f}× faster"
    return Case(name, ours, peer, faster, f"at most {limit:g} s", ours.seconds <= limit)


def _forget(path: Path) -> None:
    """Have the kernel read a file from the disk the next time."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


if __name__ == "__main__":
    main()
