"""Sweeps that grow, driven without worker processes, and a sampler that needs no package."""

from collections.abc import Callable, Mapping

from entrenar_bench.adaptive import Adaptive
from entrenar_bench.study import Arm, Plan, Study


class Walk:
    """Asks for whole numbers: each is the one before and one more, or 0 again after a failure."""

    rule: Mapping[str, object] = {"sampler": "walk"}
    described = "a walk"

    def __init__(self, step: float) -> None:
        self.step, self.at, self.told = step, 0.0, list[float | None]()

    def ask(self) -> dict[str, float]:
        return {"x": self.at}

    def tell(self, value: float | None) -> None:
        self.told.append(value)
        self.at = 0.0 if value is None else value + self.step


BASE = Arm("base", {"x": -1.0})


def walk(trials: int, *, seeds=(0, 1), step: float = 1, metric: str = "loss") -> Adaptive:
    """A sweep whose point k has x = k where a run's loss is its x."""
    plan = Plan((BASE,), tuple(seeds))
    return Adaptive(plan, Walk(step), lambda p: arm_of(p), metric=metric, trials=trials)


def arm_of(point: Mapping[str, float]) -> Arm:
    return Arm(f"x={point['x']:g}", dict(point))


def drive(study: Study, growth, runner: Callable, *, runs: int = 10**6) -> bool:
    """Do up to so many runs, as `run_trials` does; whether the sweep has come to its end."""
    while True:
        while lease := study.claim("w"):
            try:
                study.finish(lease, runner(lease.trial.config, lease.trial.seed))
            except RuntimeError as error:
                study.fail(lease, str(error))
            runs -= 1
            if not runs:
                return False
        if study.stopped is not None or not growth.more(study):
            return study.stopped is None


def same(config, seed):
    """A loss that is the configuration's x, whatever the seed."""
    return {"loss": config["x"]}
