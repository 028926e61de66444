"""Where the time of a training goes, by looking at it every few milliseconds."""

import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

from pydantic import Field

from entrenar_core.io import files
from entrenar_core.train.callbacks import Callback, Outcome, Run
from entrenar_core.train.strict import StrictModel
from entrenar_core.train.trace import Span

__all__ = ["ProfileRow", "ProfileSection", "SamplingProfiler"]

BETWEEN = "between steps"
"""What is done in no span of a step, an evaluation or a checkpoint: the log, callbacks."""

_DEEPEST, _MOST = 256, 20_000
"""Frames of a stack that are kept, the innermost; different stacks that are, the first."""
_OTHER = ("(other stacks)",)
_WHOLE = {"run", "epoch", "op"}
"""Spans that samples are not sorted by: the first two are around everything, and what an operation
is done for is seen from the stack."""

Stack = tuple[str, ...]


class ProfileSection(StrictModel):
    """A profile of a training by samples of its stack, in a file for flame graphs."""

    every_ms: float = Field(
        10.0, ge=1, le=10_000, description="milliseconds between two looks at the stack"
    )


@dataclass(frozen=True)
class ProfileRow:
    """A function within a span.

    own:   seconds in which it was the innermost Python function, what it calls in C or in compiled
           kernels included
    total: seconds in which it was anywhere on the stack
    share: `own` as a share of all of the time
    """

    span: str
    function: str
    own: float
    total: float
    share: float


class SamplingProfiler(Callback):
    """Looks at the Python stack of the training thread every `section.every_ms`, from a thread of
    its own, and counts stacks by the innermost span that was open.

    At the end of a phase it writes `profile-<phase>.collapsed` to `folder`, if there is one: a line
    for each stack, its functions from the outermost in, with ";" between them and the number of
    samples after them. That is what Brendan Gregg's FlameGraph, speedscope and inferno read; the
    outermost is the span.

    A thread looks while it has Python's lock. A kernel that keeps it is seen when it is done, as
    the line that called it; where such kernels are long there are fewer samples than intervals,
    and each stands for more time.
    """

    def __init__(self, section: ProfileSection | None = None, *, folder: Path | None = None):
        self._section, self._folder = section or ProfileSection.model_validate({}), folder
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._clear()

    def started(self, run: Run) -> None:
        self._clear()
        self._phase = run.phase
        self._outside = _depth(sys._getframe()) - 3  # this, `Callbacks.started`, and `fit`
        self._stop.clear()
        trained = threading.get_ident()
        self._thread = threading.Thread(
            target=self._look, args=(trained,), name="profiler", daemon=True
        )
        self._begun = time.perf_counter()
        self._thread.start()

    def span(self, span: Span) -> None:
        """Sort what was seen since the span began: spans inside it have ended and have theirs."""
        if span.name in _WHOLE:
            return
        with self._lock:
            while self._seen and self._seen[-1][0] >= span.started:
                _, stack = self._seen.pop()
                self._count(span.name, stack)
            if span.name == "step":  # what is left was before it
                self._settle()

    def ended(self, outcome: Outcome) -> None:  # noqa: ARG002
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self._names.clear()
        self.seconds = time.perf_counter() - self._begun
        self._settle()
        if self._folder is not None and self.samples:
            files.make_folder(self._folder)
            files.write_text(self._folder / f"profile-{self._phase}.collapsed", self.collapsed())

    @property
    def samples(self) -> int:
        """How often it has looked, without what is not sorted yet."""
        return self.counts.total()

    def collapsed(self) -> str:
        """The lines of the file, in the order of the alphabet."""
        lines = (f"{';'.join((span, *s))} {n}\n" for (span, s), n in self.counts.items())
        return "".join(sorted(lines))

    def table(self, most: int = 20) -> list[ProfileRow]:
        """The functions with the most time of their own, by span; after the end of a phase."""
        own, total = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (span, stack), count in self.counts.items():
            own[span, stack[-1]] += count
            for function in set(stack):
                total[span, function] += count
        each = self.seconds / max(1, self.samples)
        ranked = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:most]
        return [
            ProfileRow(span, function, n * each, total[span, function] * each, n / self.samples)
            for (span, function), n in ranked
        ]

    def _clear(self) -> None:
        self.counts: Counter[tuple[str, Stack]] = Counter()
        """Samples by span and stack, the outermost function first."""
        self.seconds = 0.0
        self.cost = 0.0
        """Processor time of the thread that looks, in seconds."""
        self._seen: deque[tuple[int, Stack]] = deque()
        self._names: dict[CodeType, str] = {}
        self._stop = threading.Event()

    def _look(self, trained: int) -> None:
        """Until the end: where the thread that trains is."""
        every = self._section.every_ms / 1000
        while not self._stop.wait(every):
            frame = sys._current_frames().get(trained)
            if frame is not None:
                with self._lock:
                    self._seen.append((time.perf_counter_ns(), self._stack(frame)))
            del frame  # which would keep the arrays of its function
        self.cost = time.thread_time()

    def _stack(self, frame: FrameType | None) -> Stack:
        names: list[str] = []
        while frame is not None:
            code = frame.f_code
            name = self._names.get(code)
            if name is None:
                module = frame.f_globals.get("__name__", "?")
                name = self._names[code] = f"{module}.{code.co_qualname}".replace(";", ":")
            names.append(name)
            frame = frame.f_back
        inside = names[: max(1, len(names) - self._outside)]
        return tuple(reversed(inside[:_DEEPEST]))

    def _settle(self) -> None:
        while self._seen:
            self._count(BETWEEN, self._seen.popleft()[1])

    def _count(self, span: str, stack: Stack) -> None:
        known = (span, stack) in self.counts or len(self.counts) < _MOST
        self.counts[span, stack if known else _OTHER] += 1


def _depth(frame: FrameType | None) -> int:
    """How many frames there are, with this one."""
    count = 0
    while frame is not None:
        count, frame = count + 1, frame.f_back
    return count
