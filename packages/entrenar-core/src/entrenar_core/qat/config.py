"""What of a model is quantized while it is trained, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from entrenar_common.errors import ConfigError
from entrenar_common.text import nearest
from entrenar_core.kernels import Held
from entrenar_core.nn import Module
from entrenar_core.qat.places import Matrix, matrices
from entrenar_core.qat.schedule import LowerBits, Schedule
from entrenar_core.quant import OBSERVERS, Format, Grain, Integer, MinMax, Observer, format_named

GRADIENTS = ("clipped", "soft", "learnable")

Weights = str | Format | Mapping[str, str | Format | None] | Callable[[str], str | Format | None]
"""One format for all, or the format of each matrix by its name, None for those left alone."""


@dataclass(frozen=True, kw_only=True)
class QatConfig:
    """How a model is trained on the numbers that its weights will be stored as.

    weights: a format, for the matrices that match a pattern of `include` and none of `exclude`,
    without tables and the output weight unless `embedding` and `head` say so; or the format of each
    by name, as a recipe for a GGUF file has it, and then the other four have no meaning and are an
    error.

    For integers `observer` chooses the range ("minmax", "percentile", "mse") and `gradient` what
    stands in for that of the rounding: "clipped" passes it inside the range, "soft" multiplies it
    by the slope of a smooth staircase (`alpha`), and "learnable" is clipped with steps that are
    trained too, starting from the observer's: see `ops.fake_quantize`. Other formats have scales
    that follow from the weights, and gradients that go straight through.

    noise: the share of the weights that are quantized in a step, in blocks drawn anew for each, the
    others being left as they are; None for all of them (Quant-Noise, Fan et al. 2021,
    arXiv:2004.07320). `seed` is for these draws.

    activations: the integers that inputs of projections are rounded to, None for none. Their ranges
    follow those of the inputs (`activation_momentum`), from step to step.

    Raises ConfigError for values and combinations that make no sense.
    """

    weights: Weights
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    embedding: bool = False
    head: bool = False
    observer: str | Observer = "minmax"
    gradient: str = "clipped"
    alpha: float = 0.2
    noise: float | None = None
    seed: int = 0
    activations: Integer | None = None
    activation_momentum: float = 0.01
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.gradient not in GRADIENTS:
            raise ConfigError(
                f"the gradient {self.gradient!r}", hint=f"use one of {', '.join(GRADIENTS)}"
            )
        if isinstance(self.observer, str) and self.observer not in OBSERVERS:
            raise ConfigError(
                f"the observer {self.observer!r}", hint=f"use one of {', '.join(OBSERVERS)}"
            )
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha is {self.alpha}", hint="use more than 0 and less than 1")
        if self.noise is not None and not 0 < self.noise < 1:
            raise ConfigError(
                f"noise in a share of {self.noise}", hint="use more than 0 and less than 1, or None"
            )
        if self.activations is not None and self.activations.grain != Grain("tensor"):
            raise ConfigError(
                f"activations in {self.activations.name}",
                hint="inputs have one range: use the grain of a tensor",
            )
        chosen = (self.include, self.exclude, self.embedding, self.head)
        if not isinstance(self.weights, str | Format) and chosen != (("*",), (), False, False):
            raise ConfigError(
                "weights by name together with include, exclude, embedding or head",
                hint="let the names decide: None leaves a matrix alone",
            )

    @property
    def range_observer(self) -> Observer:
        """The observer itself."""
        return OBSERVERS[self.observer] if isinstance(self.observer, str) else self.observer

    def chosen(self, model: Module) -> dict[str, tuple[Matrix, Format]]:
        """The matrices of `model` that are quantized, in its order, with their formats.

        Raises ConfigError where none is, for names and patterns that no matrix has, and for
        settings of integers with another format.
        """
        found = matrices(model)
        by_name = self._by_pattern(found) if isinstance(self.weights, str | Format) else None
        if by_name is None:
            by_name = self._by_name(found)
        formats = {n: format_named(f) for n, f in by_name.items() if f is not None}
        if not formats and self.activations is None:
            raise ConfigError(
                "no matrix of the model is quantized",
                hint="check include and exclude, or the names",
            )
        beside_adapters = bool(getattr(model, "active_adapters", ()))
        for name, form in formats.items():
            if isinstance(found[name].parameter.data, Held) and not beside_adapters:
                raise ConfigError(
                    f"{name} is held in few bits, and is to be trained",
                    hint="load the model in float32, or leave the matrix out",
                )
            self._check_format(name, form)
        return {name: (found[name], form) for name, form in formats.items()}

    def _by_pattern(self, found: Mapping[str, Matrix]) -> dict[str, str | Format | None]:
        assert isinstance(self.weights, str | Format)
        for pattern in (*self.include, *self.exclude):
            if not any(fnmatchcase(name, pattern) for name in found):
                raise ConfigError(
                    f"no matrix of the model matches {pattern!r}",
                    hint="patterns are those of a shell, for the whole name, such as "
                    "'*.mlp.*.weight'",
                )
        return {name: self.weights for name, matrix in found.items() if self._wanted(matrix)}

    def _wanted(self, matrix: Matrix) -> bool:
        if (matrix.embedding or matrix.head) and not (
            (matrix.embedding and self.embedding) or (matrix.head and self.head)
        ):
            return False
        included = any(fnmatchcase(matrix.name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(matrix.name, pattern) for pattern in self.exclude)

    def _by_name(self, found: Mapping[str, Matrix]) -> dict[str, str | Format | None]:
        if not isinstance(self.weights, Mapping):
            assert callable(self.weights)
            return {name: self.weights(name) for name in found}
        for name in self.weights:
            if name not in found:
                close = nearest(name, list(found))
                raise ConfigError(
                    f"the model has no matrix {name}",
                    hint=f"did you mean {close}?" if close else "give names of its matrices",
                )
        return {name: self.weights.get(name) for name in found}

    def _check_format(self, name: str, form: Format) -> None:
        if isinstance(form, Integer):
            return
        set_here = {
            "gradient": self.gradient != "clipped",
            "observer": self.range_observer != MinMax(),
            "schedule": isinstance(self.schedule, LowerBits),
        }
        for setting, is_set in set_here.items():
            if is_set:
                raise ConfigError(
                    f"{name} in {form.name} has scales of its own: {setting} has no meaning there",
                    hint=f"use integers such as int4, or leave {setting} as it is by default",
                )
