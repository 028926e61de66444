"""The section `lora` of a configuration: an adapter that is trained instead of a model's weights.

What it means is in `entrenar_core.lora`, which is imported only where the section is there.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from entrenar_common.errors import ConfigError
from entrenar_core.train.strict import StrictModel

if TYPE_CHECKING:
    from entrenar_core.lora import LoraConfig


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_tuple, json_schema_input_type=list[str]),
]


class LoraSection(StrictModel):
    """A low-rank adapter: alpha/rank · B·A is added to the weights of some modules, and A and B are
    trained."""

    enabled: bool = Field(True, description="false: as if the section were not there")
    rank: int = Field(16, ge=1, description="rows of A and columns of B")
    alpha: float = Field(
        32.0, gt=0, description="B·A is multiplied by alpha/rank, or alpha/√rank with use_rslora"
    )
    target_modules: Annotated[str, Field(min_length=1)] | Names = Field(
        "all-linear",
        description="modules that are adapted: names or their last parts, such as "
        "[q_proj, v_proj]; a regular expression for whole names; or all-linear, all but the output",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of what A multiplies")
    use_rslora: bool = Field(False, description="scale by alpha/√rank (rsLoRA)")
    use_dora: bool = Field(False, description="train the lengths of the weights' rows apart (DoRA)")
    init: Literal["default", "gaussian", "pissa", "olora"] = Field(
        "default",
        description="how A and B start: with a product of zero, or from the weights' largest "
        "singular vectors (pissa) or orthonormal columns (olora)",
    )
    bias: Literal["none", "lora_only", "all"] = Field(
        "none", description="biases that are trained too: none, those of adapted modules, or all"
    )
    modules_to_save: Names = Field((), description="modules that are trained whole")
    rank_pattern: Mapping[str, int] = Field(
        {}, description="other ranks, by a regular expression for the end of a module's name"
    )
    alpha_pattern: Mapping[str, float] = Field(
        {}, description="other alphas, by a regular expression for the end of a module's name"
    )
    fuse: bool = Field(
        True,
        description="write the student with the adapter in its weights, besides the adapter alone; "
        "false: only the adapter",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "LoraSection":
        try:
            self.settings()
        except ConfigError as error:
            raise ValueError(f"{error.message}; {error.hint}") from error
        return self

    @property
    def not_storable(self) -> str:
        """Why the adapter cannot be trained on the numbers that weights will be stored as; empty
        where it can."""
        if not self.fuse:
            return "needs fuse: what is stored is the weight with the adapter in it"
        if self.dropout:
            return f"cannot have dropout {self.dropout:g}: what is stored drops nothing out"
        return ""

    def settings(self) -> "LoraConfig":
        """The same in the terms of `entrenar_core.lora`."""
        from entrenar_core.lora import LoraConfig

        return LoraConfig(
            rank=self.rank,
            alpha=self.alpha,
            target_modules=self.target_modules,
            dropout=self.dropout,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init=self.init,
            bias=self.bias,
            modules_to_save=self.modules_to_save,
            rank_pattern=self.rank_pattern,
            alpha_pattern=self.alpha_pattern,
        )
