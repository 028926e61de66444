"""What `entrenar-inspect validate` finds in broken models, and whether it lets whole ones pass.

    python benchmarks/validate_corpus.py [model ...] [--fresh 800] [--large] [--json]

*broken*: every way in which the tests break a model, with the rule that has to tell and those that
did. *whole*: models in which nothing is wrong (of this library, in all formats of files and blocks;
with `--fresh`, where transformers is installed, a fresh one of each of its classes, every third in
bfloat16, float16 or shards too), how many of them were called wrong, and how near the numbers of
their tensors come to the bounds. With `--large` a NaN is looked for in a tensor of 1 GiB. Exits
with 1 where something is missed or a whole model is called wrong.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.output import Output
from entrenar_common.progress import Progress
from entrenar_core.convert import export
from entrenar_core.io.safetensors import write_file
from entrenar_inspect.check_values import largest_and_usual
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.validate import validate
from entrenar_inspect.values import values_of

sys.path.append(str(Path(__file__).parents[1] / "packages/entrenar-core/tests/support"))
sys.path.append(str(Path(__file__).parents[1] / "packages/entrenar-inspect/tests/support"))
from broken_models import BROKEN, broken_copy
from fresh_models import classes, write_fresh
from whole_models import MAKERS, WholeModels

LARGE = (16384, 16384)
"""A tensor of 1 GiB."""
LEAST = 10_000
"""Elements of a matrix from which on its largest number is compared with the usual ones."""
AT = (11_111, 7_777)
WRITTEN = {
    "gguf": (
        "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k_s", "q4_k_m", "q5_k_s",
        "q5_k_m", "q6_k",
    ),
    "apr": (
        "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k",
    ),
}  # fmt: skip
VARIANTS: tuple[dict[str, Any], ...] = (
    {}, {}, {"dtype": "bfloat16"}, {}, {}, {"dtype": "float16"}, {}, {}, {"max_shard_size": "60KB"}
)  # fmt: skip
"""How a fresh model is saved besides float32 in one file, class after class."""


@dataclass(frozen=True)
class Found:
    """A broken model, the rule that has to tell, and those that did."""

    broken: str
    of: str
    wanted: str
    found: tuple[str, ...]


@dataclass(frozen=True)
class Alarm:
    """A whole model that was called wrong."""

    model: str
    rule: str
    message: str


@dataclass(frozen=True)
class Report:
    """What was missed, what was found wrongly, and how near whole models come to the bounds."""

    broken: int
    missed: int
    whole: int
    called_wrong: int
    largest_times_usual: float
    seconds_for_1_gib: float | None
    findings: tuple[Found, ...]
    alarms: tuple[Alarm, ...] = field(default=())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, help="further models that are whole")
    parser.add_argument("--fresh", type=int, default=0, help="at most so many classes (0)")
    parser.add_argument("--large", action="store_true", help="a NaN in a tensor of 1 GiB, too")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    options = parser.parse_args()
    out = Output(json=options.json)
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(
            Path(scratch), options.models, options.fresh, options.large, out.progress()
        )
    out.emit(report, "entrenar.bench.validate-corpus/1")
    sys.exit(1 if report.missed or report.called_wrong else 0)


def measured(root: Path, given: list[Path], fresh: int, large: bool, progress: Progress) -> Report:
    whole = WholeModels(root / "whole")
    progress.start("broken models", len(BROKEN))
    findings = []
    for name, breakage in BROKEN.items():
        rules = [f.rule for f in found_in(broken_copy(name, whole, root / "broken"))]
        findings.append(Found(name, breakage.of, breakage.rule, tuple(dict.fromkeys(rules))))
        progress.advance()
    progress.start("whole models", None)
    alarms: list[Alarm] = []
    count, wrong, nearest = 0, 0, 0.0
    others = ((str(path), path) for path in given)
    for name, path in chain(ours(whole, root), others, saved(root / "fresh", fresh)):
        found = [Alarm(name, finding.rule, finding.message) for finding in found_in(path)]
        alarms += found
        count, wrong = count + 1, wrong + bool(found)
        nearest = max(nearest, nearest_to_bound(path))
        progress.advance()
    progress.finish()
    missed = sum(found.wanted not in found.found for found in findings)
    return Report(
        len(BROKEN), missed, count, wrong, nearest,
        seconds_of_large(root) if large else None, tuple(findings), tuple(alarms),
    )  # fmt: skip


def found_in(path: Path):
    return [finding for check in validate(str(path)).checks for finding in check.findings]


def ours(whole: WholeModels, root: Path) -> Iterator[tuple[str, Path]]:
    """Models of this library, and one in every format that GGUF and APR files are written in."""
    for name in MAKERS:
        yield name, whole(name)
    for form, quantizations in WRITTEN.items():
        for quantization in quantizations:
            path = root / f"{quantization}.{form}"
            export(whole("wide llama"), path, form=form, quantization=quantization)
            yield f"{form} {quantization}", path


def saved(root: Path, most: int) -> Iterator[tuple[str, Path]]:
    """Fresh models of transformers; classes that want settings of their own are left out."""
    if not most or importlib.util.find_spec("transformers") is None:
        return
    import transformers
    from transformers.utils import logging

    warnings.simplefilter("ignore")  # of models about their own defaults
    transformers.logging.set_verbosity_error()
    logging.disable_progress_bar()
    made = 0
    for number, kind in enumerate(classes()):
        for saving in {str(s): s for s in ({}, VARIANTS[number % len(VARIANTS)])}.values():
            path = root / f"{kind.__name__}{len(saving)}"
            try:
                if made >= most or not write_fresh(path, kind, **saving):
                    continue
            except Exception:  # of a hundred kinds: what cannot be made is no whole model
                continue
            made += 1
            yield f"{kind.__name__} {saving or ''}", path


def nearest_to_bound(path: Path) -> float:
    """The largest number of a large matrix in usual sizes of it."""
    nearest = 0.0
    with open_artifact(str(path)) as artifact:
        for name, entry in artifact.tensors.items():
            if len(entry.shape) < 2 or entry.elements < LEAST or entry.dtype[0] not in "FBQ":
                continue
            values = values_of(artifact, name)
            largest, usual = (0.0, 0.0) if values is None else largest_and_usual(values)
            nearest = max(nearest, largest / usual if usual else 0.0)
    return nearest


def seconds_of_large(root: Path) -> float:
    """How long it takes to find one NaN, written to a new file before, in a tensor of 1 GiB."""
    large = np.random.default_rng(0).standard_normal(LARGE, np.float32)
    large[AT] = np.nan
    path = root / "large.safetensors"
    write_file(path, {"w": large})
    del large
    start = time.perf_counter()
    (finding,) = found_in(path)
    assert (finding.rule, finding.place) == ("V401", str(list(AT))), finding
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
