"""What exporters cost: processor time for each step, on the thread that trains and in all.

    python benchmarks/exporter_cost.py [--steps 3000] [--step-seconds 1.5]

A training is told of without being done: its spans and the lines of its log, `--rate` steps a
second, with the collector in a process of its own. With `--step-seconds`, what a step of the
training in question takes, shares of it are printed. `cost` is for other benchmarks: they give it
callbacks, and divide by their own step.
"""

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from entrenar_common.output import Output
from entrenar_core.train.callbacks import Callback, Callbacks, Run
from entrenar_core.train.observe import ObserveSection, callbacks_of


@dataclass(frozen=True)
class Cost:
    """Microseconds of the processor for a step: of the thread that trains, and of the process,
    in which are those that send. Their share of a step in percent, if its length is known."""

    exporters: str
    thread_us: float
    process_us: float
    share_percent: float | None = None


@dataclass(frozen=True)
class Costs:
    costs: list[Cost]


def cost(callbacks: Sequence[Callback], *, steps: int, rate: float) -> tuple[float, float]:
    """Seconds of the processor for each step, of this thread and of the process."""
    all_of_them = Callbacks(callbacks)
    recorder = all_of_them.recorder()
    run = Run("training", 0, steps, float(steps), 1, {}, recorder.zero, notify=all_of_them.noticed)
    all_of_them.started(run)
    thread, process = time.thread_time(), time.process_time()
    due = time.monotonic()
    with recorder.span("run", phase="training"), recorder.span("epoch", epoch=1):
        for step in range(1, steps + 1):
            with recorder.span("step", step=step):
                for name in ("data", "forward", "backward", "optimizer"):
                    with recorder.span(name):
                        pass
            all_of_them.step(_record(step))
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
    thread = time.thread_time() - thread
    all_of_them.ended("finished")
    return thread / steps, (time.process_time() - process) / steps


def _record(step: int) -> dict[str, float]:
    return {
        "step": step, "loss": 2.5 / step, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens": 2048,
        "seconds": 1.5, "tokens_per_second": 1365.3, "memory_bytes": 2**30,
    }  # fmt: skip


class Collector(BaseHTTPRequestHandler):
    """Reads what it is sent and says yes."""

    def do_POST(self) -> None:
        gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def collector():
    """The address of a collector in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--collect"], stdout=subprocess.PIPE, encoding="ascii"
    )
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def _collect() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=300.0, help="steps a second")
    parser.add_argument("--step-seconds", type=float, help="what a step of the training takes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        _collect()
        return
    found = costs(steps=options.steps, rate=options.rate, step_seconds=options.step_seconds)
    Output(json=options.json).emit(Costs(found), "entrenar.benchmark.exporter-cost/1")


def costs(*, steps: int, rate: float, step_seconds: float | None = None) -> list[Cost]:
    """Of each exporter, of none, and of all together."""
    with collector() as endpoint, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings: dict[str, Any] = {
            "csv": True,
            "tensorboard": str(folder / "events"),
            "spans": True,
            "otlp": {"endpoint": endpoint},
            "prometheus": {"port": 0},
            "anomalies": {},
            "profile": {},
        }
        each = [{}, *({key: value} for key, value in settings.items()), settings]
        names = ["none", *settings, "all"]
        return [
            _cost(name, asked, folder / name, steps, rate, step_seconds)
            for name, asked in zip(names, each, strict=True)
        ]


def _cost(
    name: str, asked: Mapping[str, Any], folder: Path, steps: int, rate: float, step: float | None
) -> Cost:
    folder.mkdir()
    section = ObserveSection.model_validate(asked)
    callbacks = callbacks_of(section, folder, warn=sys.exit)
    thread, process = cost(callbacks, steps=steps, rate=rate)
    share = None if step is None else round(100 * process / step, 4)
    return Cost(name, round(thread * 1e6, 1), round(process * 1e6, 1), share)


if __name__ == "__main__":
    main()
