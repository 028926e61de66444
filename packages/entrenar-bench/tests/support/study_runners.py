"""Runners that worker processes can import: they take no time, or misbehave in a known way."""

import os
import signal
import time
from pathlib import Path

from entrenar_bench.study import Measured, Step
from entrenar_common.errors import InterruptedRun


def quick(config, seed):
    """A metric that is known, and steps on the way to it."""
    value = config["x"] + seed / 100
    return Measured({"loss": value}, [(step, {"loss": value + 2 - step}) for step in (1, 2)])


def plain(config, seed):
    return {"loss": config["x"] * seed, "pid": os.getpid()}


def picky(config, seed):
    """Fails for one arm only."""
    if config["x"] == 1:
        raise ValueError(f"x is 1 with seed {seed}")
    return {"loss": 0.5}


def failing(config, seed):
    raise RuntimeError(f"no such thing as run {seed}")


def dying(config, seed):
    if config["x"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"loss": 1.0}


def slow(config, seed):
    time.sleep(config["x"])
    return {"loss": 1.0}


def slow_same(config, seed):
    time.sleep(0.1)
    return {"loss": config["x"]}


def nothing(config, seed):
    return {}


def threads(config, seed):
    return {"threads": float(os.environ["NUMBA_NUM_THREADS"])}


def taught(config, seed):
    """What a distillation might give: best at a temperature of 2, and too hot from 97 on."""
    temperature = config["distillation"]["temperature"]
    if temperature >= 97:
        raise ValueError(f"{temperature} is too hot")
    noise = (seed * 7 % 5 + temperature * seed % 3) / 100
    loss = 1 + (temperature - 2) ** 2 / 10 + noise
    return {"loss": loss, "agreement": temperature / 10 + noise, "seconds": 1.0}


def mended(config, seed):
    """What is never too hot."""
    return {"loss": 2 + seed / 10, "seconds": 1.0}


class Walking:
    """Tells of its steps, losses 1/1, 1/2, ... plus the seed, and ends as its configuration says:
    `fails` after them, or `hangs`, whatever it is asked."""

    def __call__(self, config, seed):
        return self._walk(config, seed, lambda _step: None)

    def reporting(self, tell):
        return lambda config, seed: self._walk(config, seed, tell)

    def _walk(self, config, seed, tell):
        steps = [(n, {"loss": 1 / n + seed}) for n in range(1, config.get("steps", 5) + 1)]
        for number, metrics in steps:
            tell(Step(number, len(steps), metrics, "student"))
        if config.get("hangs"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        if config.get("fails"):
            raise ValueError("after its steps")
        return Measured({"loss": steps[-1][1]["loss"], "seconds": 1.0}, steps)


class Strolling(Walking):
    """The same for a distillation's configuration; from a temperature of 2 on it hangs."""

    def _walk(self, config, seed, tell):
        hangs = config["distillation"]["temperature"] >= 2
        return super()._walk({"steps": 20, "hangs": hangs}, seed, tell)


def interrupted(config, seed):
    """Is stopped by a signal that only this process got, the first time; then it goes on."""
    mark = Path(config["mark"])
    if not mark.exists():
        mark.touch()
        raise InterruptedRun("stopped at step 1", hint="go on")
    return {"loss": 1.0}


def burning(config, seed):
    """Uses 2 (seed + 1) joules of a counter that starts again at a limit."""
    file = Path(config["counter"])
    used = int(file.read_text()) + (seed + 1) * 2_000_000
    new = file.with_name(f"new-{seed}")
    new.write_text(f"{used % config['limit']}\n")
    os.replace(new, file)  # so that nothing is read of half a number by a run beside it
    return {"loss": 1.0}


def mixed(config, seed):
    """What temperature and alpha do alone and together."""
    hot, alpha = config["distillation"]["temperature"] > 2, config["distillation"]["alpha"]
    noise = (seed * 7 % 5 + hot * seed % 3 + alpha * seed + hot * alpha * (seed % 2)) / 100
    return {"loss": 2 - 0.3 * hot - 0.2 * alpha - 0.4 * hot * alpha + noise, "seconds": 1.0}
