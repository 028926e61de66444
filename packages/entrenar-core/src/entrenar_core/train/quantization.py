"""The section `training.quantization`: training on the numbers that weights will be stored as.

What it means is in `entrenar_core.qat`, which is imported only where the section is there.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from entrenar_common.errors import ConfigError, EntrenarError
from entrenar_core.train.strict import StrictModel

if TYPE_CHECKING:
    from entrenar_core.qat import QatConfig, QuantizedModel, Schedule

__all__ = ["QuantizationConfig", "QuantizationSchedule", "quantized", "recipe_name"]


class QuantizationSchedule(StrictModel):
    """When quantization begins, and how it grows."""

    kind: Literal["none", "lower_bits", "more_matrices"] = Field(
        "none",
        description="none: all is quantized from begin on; lower_bits: integers go from `first` "
        "bits down to theirs; more_matrices: one matrix after another, in the model's order",
    )
    begin: int = Field(
        0, ge=0, description="optimizer step, counted from 0, from which on weights are quantized"
    )
    end: int | None = Field(
        None,
        ge=0,
        description="step from which on all is as it will be stored; for lower_bits and "
        "more_matrices",
    )
    first: int | None = Field(
        None, ge=2, le=8, description="bits at the beginning, for lower_bits; 8 when absent"
    )

    @model_validator(mode="after")
    def _what_the_kind_takes(self) -> "QuantizationSchedule":
        if self.kind == "none" and self.end is not None:
            raise ValueError("end goes with kind lower_bits or more_matrices; begin is enough here")
        if self.kind != "none" and self.end is None:
            raise ValueError(f"{self.kind} needs an end")
        if self.end is not None and self.end < self.begin:
            raise ValueError(f"end {self.end} is before begin {self.begin}")
        if self.first is not None and self.kind != "lower_bits":
            raise ValueError(f"first goes with kind lower_bits, not {self.kind}")
        return self

    @property
    def last(self) -> int:
        """The step from which on all weights are as they will be stored."""
        return self.begin if self.end is None else self.end

    def schedule(self) -> "Schedule":
        """What `entrenar_core.qat` calls so."""
        from entrenar_core.qat import LowerBits, MoreMatrices, Schedule

        if self.kind == "lower_bits":
            first = {} if self.first is None else {"first": self.first}
            return LowerBits(self.begin, self.last, **first)
        if self.kind == "more_matrices":
            return MoreMatrices(self.begin, self.last)
        return Schedule(self.begin, self.begin)


class QuantizationConfig(StrictModel):
    """Training on the numbers that weights will be stored as: give `recipe` or `weights`."""

    recipe: str | None = Field(
        None,
        description="a recipe of GGUF files, such as q4_0 or q4_k_m: every matrix in the format "
        "that it has in a file written so",
    )
    weights: str | None = Field(
        None, description="one format for the matrices, such as int4, nf4 or q8_0"
    )
    include: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        strict=False,
        description="names of the matrices that `weights` is for, as patterns of a shell",
    )
    exclude: tuple[str, ...] = Field(
        (), strict=False, description="names of matrices that stay as they are"
    )
    embedding: bool = Field(False, description="whether `weights` is for token tables too")
    head: bool = Field(False, description="whether `weights` is for the output weight too")
    activations: int | None = Field(
        None, ge=2, le=8, description="bits that the inputs of projections are rounded to"
    )
    observer: Literal["minmax", "percentile", "mse"] = Field(
        "minmax", description="where the range of integers ends: at the largest weight, at the "
        "99.9th percentile, or where the squared error is least"
    )  # fmt: skip
    gradient: Literal["clipped", "soft", "learnable"] = Field(
        "clipped", description="gradient of rounding to integers: that of the identity inside the "
        "range; the slope of a smooth staircase; or clipped, with steps that are learned too"
    )  # fmt: skip
    noise: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the weights that are quantized in a step, drawn anew for each; all "
        "when absent",
    )
    schedule: QuantizationSchedule = Field(
        default_factory=lambda: QuantizationSchedule.model_validate({}),
        description="when quantization begins, and how it grows",
    )

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = recipe_name(value)
        if found == "f32":
            raise ValueError("f32 stores weights as they are: there is nothing to train for")
        return found

    @field_validator("weights")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return format_name(value)

    @model_validator(mode="after")
    def _one_choice(self) -> "QuantizationConfig":
        if (self.recipe is None) == (self.weights is None):
            raise ValueError(
                "give recipe or weights"
                + (", not both (null takes one back)" if self.recipe is not None else "")
            )
        if self.recipe is not None:
            self._check_recipe()
        if not self._integers:
            self._check_format()
        return self

    @property
    def _integers(self) -> bool:
        from entrenar_core.quant import Integer, format_named

        return self.weights is not None and isinstance(format_named(self.weights), Integer)

    def _check_recipe(self) -> None:
        chosen = {
            "include": self.include != ("*",),
            "exclude": self.exclude != (),
            "embedding": self.embedding,
            "head": self.head,
        }
        for key, given in chosen.items():
            if given:
                raise ValueError(
                    f"{key} goes with weights: the recipe {self.recipe} decides for every matrix"
                )
        if self.activations is not None:
            raise ValueError(
                "activations go with weights: a GGUF file has no ranges of inputs, and llama.cpp "
                "rounds them its own way"
            )

    def _check_format(self) -> None:
        name = self.recipe or self.weights
        for_integers = {
            "observer": self.observer != "minmax",
            "gradient": self.gradient != "clipped",
            "schedule.kind lower_bits": self.schedule.kind == "lower_bits",
        }
        for key, given in for_integers.items():
            if given:
                raise ValueError(
                    f"{key} is for integers such as int4; {name} has scales of its own"
                )

    @property
    def name(self) -> str:
        """What weights are stored as, in a word."""
        return self.recipe or str(self.weights)

    def qat(self, model: Any, *, seed: int) -> "QatConfig":
        """The same in the terms of `entrenar_core.qat`, for `model`.

        Raises UnsupportedError for a recipe and a model that llama.cpp cannot run.
        """
        from entrenar_core.qat import QatConfig
        from entrenar_core.quant import Grain, Integer

        weights: Any = self.weights
        if self.recipe is not None:
            from entrenar_core.convert.lattice import formats_of
            from entrenar_core.convert.recipe import recipe_named

            weights = formats_of(model, recipe_named(self.recipe))
        inputs = None
        if self.activations is not None:
            inputs = Integer(self.activations, symmetric=False, grain=Grain("tensor"))
        return QatConfig(
            weights=weights,
            include=self.include,
            exclude=self.exclude,
            embedding=self.embedding,
            head=self.head,
            observer=self.observer,
            gradient=self.gradient,
            noise=self.noise,
            seed=seed,
            activations=inputs,
            schedule=self.schedule.schedule(),
        )


def quantized(model: Any, config: QuantizationConfig, *, seed: int, steps: int) -> "QuantizedModel":
    """The handle for training `model` for `steps` optimizer steps as `config` says.

    Raises ConfigError for what the model cannot do, and where the last step would not see weights
    as they are stored; UnsupportedError for a recipe that is not for this model, ShapeError for a
    matrix that its format cannot store.
    """
    from entrenar_core.qat import prepare

    if config.schedule.last >= steps:
        key = "begin" if config.schedule.end is None else "end"
        raise ConfigError(
            f"training.quantization.schedule.{key} is {config.schedule.last}, and the last of the "
            f"{steps} steps is {steps - 1}, counted from 0",
            hint="let some steps see the weights as they are stored, such as the last third",
        )
    return prepare(model, config.qat(model, seed=seed))


def recipe_name(name: str) -> str:
    """The name of a recipe of GGUF files as it is written here; ValueError for what is none."""
    from entrenar_core.convert.recipe import recipe_named

    return _named(recipe_named, name).name


def format_name(name: str) -> str:
    """The name of a format of few bits as it is written here; ValueError for what is none."""
    from entrenar_core.quant import format_named

    return _named(format_named, name).name


def _named(find: Any, name: str) -> Any:
    try:
        return find(name)
    except EntrenarError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
