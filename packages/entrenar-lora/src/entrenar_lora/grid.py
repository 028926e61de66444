"""The settings that a plan chooses from, in the order in which it prefers them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import product

from entrenar_core.estimate.engines import Engine
from entrenar_core.estimate.requests import check_optimizer
from entrenar_core.estimate.setup import FULL, LORA, Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.targets import matching, usual_targets

METHODS = ("auto", "full", "lora", "qlora")
CHECKPOINTING = ("auto", "on", "off")
RANKS = (64, 32, 16, 8, 4)
"""64 is what QLoRA was evaluated with (arXiv:2305.14314, §5.1); the LoRA paper finds little change
down to 4 (arXiv:2106.09685, §7.2)."""
SEARCHED_OPTIMIZERS = ("adamw", "adamw-8bit")

ORDER = (
    "the plan gives up what changes the result least: first it works on fewer sequences at once "
    "and accumulates their gradients, then it computes activations twice, keeps the optimizer's "
    "state in 8 bits, and the base in fewer bits; then it takes a lower rank, and fewer modules"
)


@dataclass(frozen=True)
class Wanted:
    """What the user asks for; None, or auto, where the plan may choose."""

    method: str = "auto"
    batch_size: int = 1
    seq_len: int = 2048
    optimizer: str | None = None
    targets: tuple[str, ...] | None = None
    rank: int | None = None
    checkpointing: str = "auto"


@dataclass(frozen=True)
class Grid:
    """The choices on each axis, the most preferred first. The axes stand in the order of what is
    given up last: the first one changes slowest."""

    targets: tuple[tuple[str, ...], ...]
    rank: tuple[int, ...]
    base: tuple[str, ...]
    optimizer: tuple[str, ...]
    checkpointing: tuple[bool, ...]
    batch: tuple[int, ...]
    method: str = field(metadata={"axis": False})
    batch_size: int = field(metadata={"axis": False})
    seq_len: int = field(metadata={"axis": False})
    modules: Mapping[tuple[str, ...], tuple[str, ...]] = field(metadata={"axis": False})
    """The names of the modules that each of `targets` means."""

    def points(self) -> Iterator["Point"]:
        """Every combination, the most preferred first."""
        for values in product(*(getattr(self, name) for name in AXES)):
            yield Point(*values)

    def setup(self, point: "Point", *, seq_len: int | None = None) -> Setup:
        """A combination as what the estimates take."""
        return Setup(
            method=self.method,
            base=point.base,
            targets=self.modules[point.targets],
            rank=point.rank,
            optimizer=point.optimizer,
            batch=point.batch,
            accumulation=max(1, self.batch_size // point.batch),
            seq_len=seq_len or self.seq_len,
            checkpointing=point.checkpointing,
        )


@dataclass(frozen=True)
class Point:
    """One combination; the names are those of the axes of `Grid`."""

    targets: tuple[str, ...]
    rank: int
    base: str
    optimizer: str
    checkpointing: bool
    batch: int


AXES = tuple(f.name for f in fields(Point))


def make_grid(shape: ModelShape, engine: Engine, wanted: Wanted) -> Grid:
    """The grid of `engine` for a model, narrowed by what the user has fixed.

    Raises UsageError for what the engine has not, ConfigError for targets that mean no module.
    """
    full = wanted.method == "full"
    sets = [()] if full else [wanted.targets] if wanted.targets else usual_targets(shape.model_type)
    modules = {each: matching(shape.linears, each) if each else () for each in sets}
    distinct = {found: each for each, found in reversed(list(modules.items()))}
    kept = tuple(each for each in sets if distinct[modules[each]] == each)
    return Grid(
        targets=kept,
        rank=(0,) if full else (wanted.rank,) if wanted.rank else _ranks(shape),
        base=_bases(engine, wanted.method),
        optimizer=_optimizers(engine, wanted.optimizer),
        checkpointing={"on": (True,), "off": (False,)}.get(wanted.checkpointing, (False, True)),
        batch=tuple(n for n in range(wanted.batch_size, 0, -1) if wanted.batch_size % n == 0),
        method=FULL if full else LORA,
        batch_size=wanted.batch_size,
        seq_len=wanted.seq_len,
        modules=modules,
    )


def _ranks(shape: ModelShape) -> tuple[int, ...]:
    """RANKS, without those above the smallest side of a matrix, of which at least one is kept."""
    side = min(min(sides) for sides in shape.linears.values())
    return tuple(rank for rank in RANKS if rank <= side) or RANKS[-1:]


def _bases(engine: Engine, method: str) -> tuple[str, ...]:
    choices = {
        "full": engine.full,
        "lora": engine.plain,
        "qlora": engine.quantized,
        "auto": (*engine.plain, *engine.quantized),
    }
    return choices[method]


def _optimizers(engine: Engine, wanted: str | None) -> tuple[str, ...]:
    if wanted is None:
        return tuple(name for name in SEARCHED_OPTIMIZERS if name in engine.optimizers)
    check_optimizer(engine, wanted)
    return (wanted,)
