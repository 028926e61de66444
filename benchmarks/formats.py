"""Formats for weights of few bits beside the libraries that have them, in one process.

    python benchmarks/formats.py [--only q4_k] [--rounds 7] [--targets] [--json]

*codecs*: encoders and decoders of ggml's block formats beside the gguf package and, where its
shared library is found (named by ENTRENAR_GGML, in an installed llama_cpp, or in .venv-llama, which
`make .venv-llama/.installed` compiles for speed), ggml's own encoder, which is called in as many
threads as we use, each with its share of the rows. All are called in turns on the same numbers, and
the medians compared. With `--targets`, exits with 1 when one is missed.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from format_report import CodecTime, FormatsReport, Rate

from entrenar_common.output import Output
from entrenar_core.environment import environment
from entrenar_core.quant.blocks import BY_NUMBER, BlockFormat
from entrenar_core.train.process import keep_freed_memory

sys.path.append(str(Path(__file__).parents[1] / "packages/entrenar-core/tests/support"))
from ggml_library import VARIABLE, Ggml, library_path

ROOT = Path(__file__).parents[1]
FAST = ".venv-llama/lib/python*/site-packages/llama_cpp/lib/libggml-base.*"
COLUMNS = 4096
ROWS, SEARCHED_ROWS = 4096, 512
"""Of what is encoded: formats whose scales are searched take a hundred times as long."""
SLOW_PART = 16
"""The other libraries are given this part of the rows where they take seconds."""
FORMS = [form for form in BY_NUMBER.values() if form.block > 1 and form.decode]

Calls = dict[str, tuple[Callable[[], Any], int]]
"""What is called by the name of its side, with the bytes of floats that it reads or writes."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="formats whose name contains this")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (7)")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    if importlib.util.find_spec("gguf") is None:
        sys.exit("formats.py needs gguf: run `make bench-formats`")
    out = Output(json=options.json, quiet=options.quiet)
    path = library_path() or next(iter(ROOT.glob(FAST)), None)
    if path is None:
        out.note(f"no ggml is found: make .venv-llama/.installed, or set {VARIABLE}")
    keep_freed_memory()
    import numba

    threads = numba.get_num_threads()
    weights = 0.02 * np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32)
    codecs = []
    for form in FORMS:
        if options.only in form.name:
            out.note(form.name)
            measured = Codec(form, weights, Ggml(path) if path else None, threads)
            codecs.append(measured.times(options.rounds))
    machine = environment()
    report = FormatsReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        environment=machine,
        threads=threads,
        ggml="" if path is None else path.name,
        openblas_variables={k: v for k, v in os.environ.items() if k.startswith("OPENBLAS_")},
        copy_gb_per_second=_copy_bandwidth(weights),
        rounds=options.rounds,
        codecs=codecs,
    )
    out.emit(report, "entrenar.benchmark.formats/1")
    sys.exit(1 if options.targets and not report.passed() else 0)


class Codec:
    """One format with all that encodes or decodes it."""

    def __init__(self, form: BlockFormat, weights: np.ndarray, ggml: Ggml | None, threads: int):
        self.form, self.ggml, self.threads = form, ggml, threads
        self.x = weights[: ROWS if form.block == 32 else SEARCHED_ROWS]
        if form.encode is None:
            random = np.random.default_rng(0)
            self.stored = random.integers(0, 256, (ROWS, form.row_bytes(COLUMNS)), np.uint8)
        else:
            self.stored = np.resize(form.encode(self.x), (ROWS, form.row_bytes(COLUMNS)))

    def times(self, rounds: int) -> CodecTime:
        encoding = _rates(self.encoders(), rounds) if self.form.encode else {}
        return CodecTime(self.form.name, encoding, _rates(self.decoders(), rounds))

    def encoders(self) -> Calls:
        from gguf import quants

        x, form = self.x, self.form
        part = x[: len(x) // SLOW_PART]
        calls: Calls = {"entrenar": (lambda: form.encode(x), x.nbytes)}
        if form.block == 32:
            kind = quants.GGMLQuantizationType(form.number)
            calls["gguf"] = (lambda: quants.quantize(part, kind), part.nbytes)
        if self.ggml:
            given = x if form.block == 32 else part
            calls["ggml"] = (lambda: self._in_threads(given), given.nbytes)
        return calls

    def decoders(self) -> Calls:
        from gguf import quants

        stored, form = self.stored, self.form
        part = stored[: ROWS // SLOW_PART]
        kind = quants.GGMLQuantizationType(form.number)
        return {
            "entrenar": (lambda: form.decode(stored), 4 * ROWS * COLUMNS),
            "gguf": (lambda: quants.dequantize(part, kind), 4 * len(part) * COLUMNS),
        }

    def _in_threads(self, x: np.ndarray) -> np.ndarray:
        """What ggml makes of x, each thread with a share of the rows."""
        assert self.ggml is not None
        ggml, form = self.ggml, self.form
        out = np.empty((len(x), form.row_bytes(COLUMNS)), np.uint8)
        ends = [len(x) * i // self.threads for i in range(self.threads + 1)]

        def encode(i: int) -> None:
            ggml.encode_rows(form, x, out, first=ends[i], rows=ends[i + 1] - ends[i])

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(encode, range(self.threads)))
        return out


def _rates(calls: Calls, rounds: int) -> dict[str, Rate]:
    """The rate of each side, of the medians of its times."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, (call, _) in calls.items():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            call()
            seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
            if turn:  # the first one warms up
                times[name].append(seconds)
    found = {}
    for name, (_, size) in calls.items():
        wall, cpu = (median(seconds) for seconds in zip(*times[name], strict=True))
        rounds = [1e9 * seconds / size for seconds, _ in times[name]]
        found[name] = Rate(size / 1e9 / wall, size / 1e9 / cpu, rounds)
    return found


def _copy_bandwidth(x: np.ndarray) -> float:
    """GB/s, read and written, of numpy's copy with one thread."""
    target = np.empty_like(x)
    return 2 * _rates({"copy": (lambda: np.copyto(target, x), x.nbytes)}, 5)["copy"].gb_per_second


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
