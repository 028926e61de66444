"""When a term of a loss takes part."""

from dataclasses import dataclass

from entrenar_common.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """From optimizer step `from_step` until before `until_step`, counted from 0; with `ramp_steps`
    the weight rises linearly to its full size in so many steps.

    Raises ConfigError for steps that are negative or of no length.
    """

    from_step: int = 0
    until_step: int | None = None
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        if self.from_step < 0 or self.ramp_steps < 0:
            raise ConfigError(
                f"from_step {self.from_step} and ramp_steps {self.ramp_steps}",
                hint="steps are counted from 0",
            )
        if self.until_step is not None and self.until_step <= self.from_step:
            raise ConfigError(
                f"until_step {self.until_step} is not after from_step {self.from_step}",
                hint="until_step is the first step without the term",
            )

    def factor(self, step: int) -> float:
        """The share of the weight at optimizer step `step`: 0 where the term is not computed.

        >>> [Schedule(from_step=2, ramp_steps=4).factor(step) for step in (1, 2, 4, 9)]
        [0.0, 0.25, 0.75, 1.0]
        """
        if step < self.from_step or (self.until_step is not None and step >= self.until_step):
            return 0.0
        return min(1.0, (step - self.from_step + 1) / self.ramp_steps) if self.ramp_steps else 1.0

    def __str__(self) -> str:
        words = [f"from step {self.from_step}"] if self.from_step else []
        words += [] if self.until_step is None else [f"until step {self.until_step}"]
        words += [f"rising over {self.ramp_steps} steps"] if self.ramp_steps else []
        return ", ".join(words) or "always"


ALWAYS = Schedule()
