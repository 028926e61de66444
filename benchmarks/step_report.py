"""What the training-step benchmark found, as a record that is shown as tables or JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from exporter_cost import Cost
from step_worker import Shape

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes

LOSS_TOLERANCE = 1e-3
BF16_LOSS_TOLERANCE = 2.0**-9
"""By the loss, where matrices are multiplied in bfloat16: as much as rounding the loss itself to
such a number can change it. Libraries round in different places, but a loss is a mean over so many
tokens that most of it averages out: 24M differs by 5e-6."""
IDLE_LIMIT = 0.1
"""Cores that a waiting side may keep busy before the report warns of it."""
BUSY_LIMIT = 0.9
"""The part of its threads that a stepping side must have a core for, else the report warns."""

SPEED_TARGETS = {"eager": 2.3, "compiled": 2.1}
BF16_TARGETS = {
    "134M": {"eager-bf16": 1.8, "compiled-bf16": 1.4},
    "24M": {"eager-bf16": 2.5},
}
BF16_MEMORY_TARGET = 1.0
"""Against our own float32: what is kept has its type."""
DISTILLATION_TARGET = 2.0
"""Against eager where a student learns from a teacher."""
OURS = "entrenar"
"""The mode that is ours in float32; the name of another of ours begins so."""
OTHER_LOSS = "trl"
"""The mode whose loss is not that of the others: TRL leaves T² and cross-entropy out."""
ADAPTER_TARGET = 2.0
"""Against eager where an adapter is trained."""
QLORA_TARGET = 1.25
"""A step on a base in NF4 by one on a base in float32, of the same adapter."""
MEMORY_TARGETS = {"24M": 0.55, "134M": 0.88, "distillation": 0.5}
HASWELL_TARGET = 1.3
"""Against eager where OPENBLAS_CORETYPE=Haswell keeps OpenBLAS from its AVX-512 kernels."""


@dataclass
class Side:
    """The steps of one library: medians, and every step's time and loss in order."""

    mode: str
    failed: str
    seconds: list[float]
    cpu_seconds: list[float]
    losses: list[float]
    cores: float
    idle_cores: float
    peak_bytes: int = 0

    @classmethod
    def of(cls, mode: str, failed: str, answers: list[dict[str, Any]]) -> "Side":
        """From a worker's answers to `step`."""
        if failed:
            return cls(mode, failed, [], [], [], 0.0, 0.0)
        return cls(
            mode,
            failed,
            [answer["seconds"] for answer in answers],
            [answer["seconds"] * answer["cores"] for answer in answers],
            [answer["loss"] for answer in answers],
            median(answer["cores"] for answer in answers),
            median(answer["idle_cores"] for answer in answers),
        )


@dataclass
class Product:
    """The GFLOP/s of (m, k) times (k, n) by mode."""

    name: str
    m: int
    n: int
    k: int
    gflops: dict[str, float]


@dataclass
class Ratio:
    """Our mode `of` against another `mode`: speed-up by the medians, in every pair of steps
    (sorted) and by CPU time, and the part of its memory that ours uses. The largest difference of
    losses, and what it has to stay below."""

    of: str
    mode: str
    speed: float
    pairs: list[float]
    cpu: float
    memory: float
    loss_difference: float
    loss_bound: float

    @classmethod
    def between(cls, ours: Side, other: Side) -> "Ratio":
        pairs = sorted(b / a for a, b in zip(ours.seconds, other.seconds, strict=True))
        differences = [abs(a - b) for a, b in zip(ours.losses, other.losses, strict=True)]
        bound = LOSS_TOLERANCE
        if _precision(ours.mode) == "bf16":
            bound = BF16_LOSS_TOLERANCE * min(map(abs, other.losses))
        return cls(
            ours.mode,
            other.mode,
            median(other.seconds) / median(ours.seconds),
            pairs,
            median(other.cpu_seconds) / median(ours.cpu_seconds),
            ours.peak_bytes / other.peak_bytes if other.peak_bytes else 0.0,
            max(differences),
            bound,
        )


def _precision(mode: str) -> str:
    """What matrices are multiplied in, by the name of a mode."""
    return mode.partition("-")[2] or "float32"


def _comparable(ours: str, other: str) -> bool:
    """Whether our mode is measured against the other: one of PyTorch in the same precision, or our
    own float32."""
    if other == OURS:
        return ours != OURS
    return not other.startswith(OURS) and _precision(ours) == _precision(other)


@dataclass
class Comparison:
    """One shape's results."""

    name: str
    shape: Shape
    threads: int
    sides: list[Side]
    products: list[Product]
    ratios: list[Ratio] = field(init=False)

    def __post_init__(self) -> None:
        ran = [side for side in self.sides if not side.failed]
        self.ratios = [
            Ratio.between(own, other)
            for own in self.own
            for other in ran
            if _comparable(own.mode, other.mode)
        ]

    @property
    def own(self) -> list[Side]:
        """Our sides that ran, float32 first."""
        ran = [s for s in self.sides if s.mode.startswith(OURS) and not s.failed]
        return sorted(ran, key=lambda side: side.mode != OURS)

    @property
    def ours(self) -> Side | None:
        """The first of them."""
        return next(iter(self.own), None)

    @property
    def complete(self) -> bool:
        """Whether there is a side of ours and none has failed."""
        asked = sum(side.mode.startswith(OURS) for side in self.sides)
        return 0 < asked == len(self.own)

    def __view__(self) -> Iterator[Any]:
        s = self.shape
        yield Text(
            f"{self.name}: {s.architecture}, hidden {s.hidden}, {s.layers} layers, "
            f"{s.heads} heads, inner {s.inner}, vocabulary {s.vocabulary}, "
            f"{s.batch} × {s.time} tokens",
            "title",
        )
        columns = ["", "s a step", "lowest", "tokens/s", "cores", "idle cores", "memory"]
        yield Table(None, columns, [self._row(side) for side in self.sides if not side.failed])
        for side in self.sides:
            if side.failed:
                yield Text(f"{side.mode} failed: {side.failed}", "bad")
            elif side.idle_cores > IDLE_LIMIT:
                yield Text(f"{side.mode} keeps threads busy while it waits", "warning")
        if any(side.cores < BUSY_LIMIT * self.threads for side in self.sides if not side.failed):
            yield Text("the machine was busy with other work: measure again", "warning")
        for of in dict.fromkeys(ratio.of for ratio in self.ratios):
            yield Table(
                of,
                ["against", "speed", "of pairs", "range", "CPU", "memory", "loss off"],
                [_ratio_row(ratio) for ratio in self.ratios if ratio.of == of],
            )
        modes = list(self.products[0].gflops) if self.products else []
        yield Table(
            None,
            ["GFLOP/s", "m × n × k", *modes],
            [
                [p.name, f"{p.m} × {p.n} × {p.k}", *(f"{p.gflops[mode]:.0f}" for mode in modes)]
                for p in self.products
            ],
        )

    def _row(self, side: Side) -> list[Any]:
        seconds = median(side.seconds)
        return [
            side.mode,
            f"{seconds:.3f}",
            f"{min(side.seconds):.3f}",
            f"{self.shape.tokens / seconds:.0f}",
            f"{side.cores:.2f}",
            f"{side.idle_cores:.2f}",
            format_bytes(side.peak_bytes),
        ]


@dataclass
class Target:
    """A figure that was asked for."""

    name: str
    wanted: float
    found: float
    met: bool


@dataclass
class Report:
    """Everything, with the machine that it was found on. `machine` is by mode."""

    date: str
    machine: dict[str, dict[str, Any]]
    openblas_variables: dict[str, str]
    rounds: int
    comparisons: list[Comparison]
    targets: bool
    exporters: list[Cost] = field(default_factory=list)

    def passed(self) -> bool:
        """Whether all sides had the same losses and, if they count, the targets are met."""
        same = all(
            ratio.loss_difference < ratio.loss_bound
            for c in self.comparisons
            for ratio in c.ratios
            if ratio.mode != OTHER_LOSS
        )
        ran = all(c.complete for c in self.comparisons)
        return same and ran and not (self.targets and any(not t.met for t in self.found_targets()))

    def found_targets(self) -> list[Target]:
        """The targets that apply to what was run, in the environment that it was run in."""
        found = self._targets_of_bases()
        for comparison in self.comparisons:
            for ratio in comparison.ratios:
                found += self._targets_of(comparison, ratio)
        return found

    def _targets_of(self, comparison: Comparison, ratio: Ratio) -> Iterator[Target]:
        name = f"{comparison.name} against {ratio.mode}"
        if ratio.of != OURS:
            name = f"{comparison.name}, {ratio.of} against {ratio.mode}"
        wanted = self._wanted_speed(comparison, ratio)
        if wanted is not None:
            yield Target(f"{name}, speed ≥", wanted, ratio.speed, ratio.speed >= wanted)
        limit = self._wanted_memory(comparison, ratio)
        if limit is not None:
            yield Target(f"{name}, memory ≤", limit, ratio.memory, ratio.memory <= limit)

    def _wanted_speed(self, comparison: Comparison, ratio: Ratio) -> float | None:
        """The target for these steps; None where there is none, as where a variable keeps OpenBLAS
        from its own choice of kernels."""
        shape, mode = comparison.shape, ratio.mode
        if self.openblas_variables:
            core = self.openblas_variables.get("OPENBLAS_CORETYPE", "").lower()
            told = core == "haswell" and mode == "eager" and not (shape.adapter or shape.teacher)
            return HASWELL_TARGET if told else None
        if ratio.of != OURS:
            return BF16_TARGETS.get(comparison.name, {}).get(mode)
        if shape.teacher:
            return DISTILLATION_TARGET if mode == "eager" else None
        if shape.adapter:
            return ADAPTER_TARGET if mode == "eager" else None
        return SPEED_TARGETS[mode]

    def _wanted_memory(self, comparison: Comparison, ratio: Ratio) -> float | None:
        """The most of the other's memory; None where there is no target."""
        if self.openblas_variables:
            return None
        if ratio.mode == OURS:
            return BF16_MEMORY_TARGET
        return MEMORY_TARGETS.get(comparison.name) if ratio.mode == "eager" else None

    def _targets_of_bases(self) -> list[Target]:
        """What a base in few bits costs, where steps on both bases were measured."""
        seconds = {c.shape.adapter: median(c.ours.seconds) for c in self.comparisons if c.ours}
        if not {"lora", "qlora"} <= seconds.keys():
            return []
        found = seconds["qlora"] / seconds["lora"]
        name = "entrenar's qlora by its lora, time ≤"
        return [Target(name, QLORA_TARGET, found, found <= QLORA_TARGET)]

    def __view__(self) -> Iterator[Any]:
        of_ours = [said for mode, said in self.machine.items() if mode.startswith(OURS)]
        of_others = [said for mode, said in self.machine.items() if not mode.startswith(OURS)]
        ours, theirs = (next(filter(None, all_), {}) for all_ in (of_ours, of_others))
        variables = ", ".join(f"{k}={v}" for k, v in self.openblas_variables.items())
        yield Fields(
            "Training steps",
            [
                ("date", self.date),
                ("CPU", ours.get("cpu")),
                ("entrenar's BLAS", f"{ours.get('blas')}, core type {ours.get('core')}"),
                ("OPENBLAS_* variables", variables or "none"),
                ("PyTorch's BLAS", theirs.get("blas")),
                ("threads", f"{ours.get('threads')} and {theirs.get('threads')}"),
                (
                    "versions",
                    f"numpy {ours.get('numpy')}, numba {ours.get('numba')} "
                    f"({ours.get('threading')}), torch {theirs.get('torch')}, "
                    f"transformers {theirs.get('transformers')}, Python {ours.get('python')}",
                ),
                ("steps", f"{self.rounds} of each side in turns; medians"),
            ],
        )
        yield from self.comparisons
        for comparison in self.comparisons:
            yield Text(_losses(comparison))
        yield from self._exporters()
        if self.targets:
            yield Table(
                "Targets",
                ["", "wanted", "found", ""],
                [
                    [t.name, f"{t.wanted:.2f}", f"{t.found:.2f}", "met" if t.met else "missed"]
                    for t in self.found_targets()
                ],
            )

    def _exporters(self) -> Iterator[Any]:
        """What each exporter adds to a step, beside the shortest of entrenar's steps here."""
        own = [(median(c.ours.seconds), c.name) for c in self.comparisons if c.ours]
        if not own or not self.exporters:
            return
        seconds, name = min(own)
        silent = next(c.process_us for c in self.exporters if c.exporters == "none")
        rows = []
        for cost in self.exporters:
            added = cost.process_us - silent
            share = f"{added / 1e6 / seconds:.3%}"
            rows.append(
                [cost.exporters, f"{cost.process_us / 1e3:.2f}", f"{added / 1e3:.2f}", share]
            )
        yield Table(
            "What exporters cost: processor time for each step",
            ["exporter", "ms", "more than none", f"of a step of {name}"],
            rows,
        )


def _ratio_row(ratio: Ratio) -> list[str]:
    return [
        ratio.mode,
        f"{ratio.speed:.2f}×",
        f"{median(ratio.pairs):.2f}×",
        f"{ratio.pairs[0]:.2f}–{ratio.pairs[-1]:.2f}",
        f"{ratio.cpu:.2f}×",
        f"{ratio.memory:.2f}×",
        f"{ratio.loss_difference:.1e}",
    ]


def _losses(comparison: Comparison) -> str:
    shown = [
        f"{side.mode} {side.losses[0]:.4f} … {side.losses[-1]:.4f}"
        for side in comparison.sides
        if side.losses
    ]
    return f"{comparison.name}, loss of the first and last timed step: " + ", ".join(shown)
