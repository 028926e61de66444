"""The section `quantize`: training on the numbers that weights will be stored as."""

from typing import Any

from pydantic import Field, model_validator

from entrenar_core.train.quantization import QuantizationConfig

__all__ = ["QuantizeSection"]


class QuantizeSection(QuantizationConfig):
    """Training on the numbers that weights will be stored as: give `bits`, `weights` or
    `recipe`."""

    bits: int | None = Field(
        None, ge=2, le=8, description="integers of so many bits: a short form of weights"
    )
    symmetric: bool = Field(
        True, description="with bits: around 0, instead of with a zero point of their own"
    )
    per_channel: bool = Field(
        True, description="with bits: a scale for each row of a matrix, instead of one for all"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_bits(cls, data: Any) -> Any:
        """`weights` of `bits`, where these are what is given; a run's own copy has both."""
        if not isinstance(data, dict) or type(data.get("bits")) is not int:
            return data
        name = _format(data)
        return data if name is None or data.get("weights") else {**data, "weights": name}

    @model_validator(mode="after")
    def _one_format(self) -> "QuantizeSection":
        if self.bits is None:
            if not (self.symmetric and self.per_channel):
                key = "per_channel" if self.symmetric else "symmetric"
                raise ValueError(f"{key} goes with bits: {self.name} has scales of its own")
        elif self.weights != _format(self.model_dump()):
            raise ValueError(f"bits {self.bits} and weights {self.weights}: give one of them")
        return self

    def settings(self) -> QuantizationConfig:
        """The same without the short form."""
        own = {name: getattr(self, name) for name in QuantizationConfig.model_fields}
        return QuantizationConfig.model_validate(own)


def _format(data: dict[str, Any]) -> str | None:
    """The name of the format that `bits` and the keys about them mean, None where they are
    wrong."""
    from entrenar_core.quant import Grain, Integer
    from entrenar_core.quant.integers import WIDTHS

    symmetric, per_channel = data.get("symmetric", True), data.get("per_channel", True)
    if data["bits"] not in WIDTHS or type(symmetric) is not bool or type(per_channel) is not bool:
        return None
    grain = Grain("channel" if per_channel else "tensor")
    return Integer(data["bits"], symmetric=symmetric, grain=grain).name
