"""What the decoding benchmark found, as a record that is shown as tables or JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes

IDLE_LIMIT, BUSY_LIMIT = 0.1, 0.8
"""Cores that a waiting side may keep busy, and the part of its threads that our float32 must have a
core for, before the report warns."""
OURS, OURS_EXACT, THEIRS_EXACT = "entrenar", "entrenar float32", "transformers float32"
SAME = 0.95
"""The least part of the tokens of transformers' float32 that ours has to find. Not all: with random
weights two tokens can be as likely, and after another one a text goes on in another way."""


@dataclass
class Side:
    """One library: the seconds of every round, of a whole call and of one for a first token alone;
    the ids that it found, which are the same in all rounds."""

    mode: str
    failed: str
    seconds: list[float]
    first_seconds: list[float]
    cores: float
    idle_cores: float
    ids: list[list[int]]

    @classmethod
    def of(
        cls, mode: str, failed: str, firsts: list[float], answers: list[dict[str, Any]]
    ) -> "Side":
        """From a worker's answers to `decode`."""
        if failed or not answers:
            return cls(mode, failed, [], [], 0.0, 0.0, [])
        return cls(
            mode,
            failed,
            [answer["seconds"] for answer in answers],
            firsts,
            median(answer["cores"] for answer in answers),
            median(answer["idle_cores"] for answer in answers),
            answers[0]["ids"],
        )


@dataclass
class Ratio:
    """How many times as fast our mode `of` is as `mode`: by the medians, and within rounds."""

    of: str
    mode: str
    speed: float
    pairs: list[float]

    @classmethod
    def between(cls, ours: Side, other: Side) -> "Ratio":
        pairs = sorted(b / a for a, b in zip(ours.seconds, other.seconds, strict=True))
        return cls(ours.mode, other.mode, median(other.seconds) / median(ours.seconds), pairs)


@dataclass
class Batch:
    """So many texts at a time, with `new` tokens for each."""

    texts: int
    new: int
    sides: list[Side]
    ratios: list[Ratio] = field(init=False)

    def __post_init__(self) -> None:
        ran = [side for side in self.sides if side.seconds]
        self.ratios = [
            Ratio.between(own, other)
            for own in ran
            if own.mode.startswith(OURS)
            for other in ran
            if other is not own
        ]

    def side(self, mode: str) -> Side | None:
        return next((side for side in self.sides if side.mode == mode and side.seconds), None)

    def same_tokens(self, side: Side) -> float | None:
        """The part of the tokens up to the first other one in each text, of those of transformers'
        float32; None where that did not run."""
        exact = self.side(THEIRS_EXACT)
        if exact is None:
            return None
        same = 0
        for ours, theirs in zip(side.ids, exact.ids, strict=True):
            equal = [a == b for a, b in zip(ours, theirs, strict=True)]
            same += [*equal, False].index(False)
        return same / (self.texts * self.new)


@dataclass
class DecodingReport:
    """Everything, with the machine that it was found on. `machine` and `peak_bytes` are by mode."""

    date: str
    machine: dict[str, dict[str, Any]]
    openblas_variables: dict[str, str]
    prompt: int
    new: int
    rounds: int
    batches: list[Batch]
    peak_bytes: dict[str, int]
    notes: list[str]

    def passed(self) -> bool:
        """Whether our float32, where it ran, found the tokens of transformers' float32."""
        found = [
            batch.same_tokens(ours)
            for batch in self.batches
            if (ours := batch.side(OURS_EXACT)) is not None
        ]
        return all(same is None or same >= SAME for same in found)

    def __view__(self) -> Iterator[Any]:
        said = {key: value for of in self.machine.values() for key, value in of.items()}
        variables = ", ".join(f"{k}={v}" for k, v in self.openblas_variables.items())
        threads = sorted({of["threads"] for of in self.machine.values() if of})
        yield Fields(
            "Decoding",
            [
                ("date", self.date),
                ("CPU", said.get("cpu")),
                ("BLAS", said.get("blas")),
                ("OPENBLAS_* variables", variables or "none"),
                ("threads", ", ".join(map(str, threads))),
                (
                    "versions",
                    f"numpy {said.get('numpy')}, numba {said.get('numba')}, "
                    f"torch {said.get('torch')}, transformers {said.get('transformers')}, "
                    f"llama-cpp-python {said.get('llama_cpp', 'none')}",
                ),
                ("model", "llama, 134 million random weights"),
                ("texts", f"{self.prompt} tokens, and {self.new} new ones"),
                ("turns", f"{self.rounds} of each side; medians"),
            ],
        )
        for text in self.notes:
            yield Text(text, "warning")
        for side in self.batches[0].sides if self.batches else ():
            if side.failed:
                yield Text(f"{side.mode} is left out: {side.failed}", "warning")
        yield from (self._table(batch) for batch in self.batches)
        yield from self._warnings(max(threads, default=1))
        if not self.passed():
            yield Text("our float32 does not find the tokens of transformers' float32", "bad")

    def _warnings(self, threads: int) -> Iterator[Text]:
        """What makes the times say little."""
        ran = [side for batch in self.batches for side in batch.sides if side.seconds]
        for mode in dict.fromkeys(side.mode for side in ran if side.idle_cores > IDLE_LIMIT):
            yield Text(f"{mode} keeps threads busy while it waits", "warning")
        if any(side.cores < BUSY_LIMIT * threads for side in ran if side.mode == OURS_EXACT):
            yield Text("the machine was busy with other work: measure again", "warning")

    def _table(self, batch: Batch) -> Table:
        ran = [side for side in batch.sides if side.seconds]
        own = [side.mode for side in ran if side.mode.startswith(OURS)]
        columns = ["", "tokens/s", "memory", "same"]
        return Table(
            f"{batch.texts} at a time",
            [*columns, *(mode.removeprefix(OURS).strip() for mode in own)],
            [self._row(batch, side, own) for side in ran],
            "same: tokens as of transformers float32, before the first other one. The last "
            "columns: how many times as fast entrenar is in that type.",
        )

    def _row(self, batch: Batch, side: Side, own: list[str]) -> list[Any]:
        speeds = {ratio.of: ratio.speed for ratio in batch.ratios if ratio.mode == side.mode}
        same = batch.same_tokens(side)
        return [
            side.mode,
            f"{batch.texts * batch.new / median(side.seconds):.1f}",
            format_bytes(self.peak_bytes.get(side.mode, 0)),
            None if same is None else f"{same:.0%}",
            *(f"{speeds[mode]:.2f}×" if mode in speeds else "" for mode in own),
        ]
