"""Where a training's figures can be asked for: the section of a configuration."""

from pydantic import Field

from entrenar_core.train.strict import StrictModel

__all__ = ["PrometheusSection"]


class PrometheusSection(StrictModel):
    """Figures of a training for Prometheus, which asks for them."""

    port: int = Field(
        9464, ge=0, le=65535, description="port that answers at /metrics; 0 is any that is free"
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address that is listened at; with 0.0.0.0 all of a network can ask",
    )
