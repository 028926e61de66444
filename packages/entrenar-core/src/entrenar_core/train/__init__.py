"""Training: the loop, its configuration, callbacks, checkpoints and the run record.

    from entrenar_core.train import Trainer, TrainingConfig, train_from_yaml

The names here are loaded when they are first used: a configuration is read without what trains.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrenar_core.train.callbacks import Callback as Callback
    from entrenar_core.train.callbacks import Notice as Notice
    from entrenar_core.train.callbacks import StopTraining as StopTraining
    from entrenar_core.train.config import TrainingConfig as TrainingConfig
    from entrenar_core.train.declarative import TrainSpec as TrainSpec
    from entrenar_core.train.declarative import train_from_yaml as train_from_yaml
    from entrenar_core.train.objective import LanguageModelling as LanguageModelling
    from entrenar_core.train.trainer import Trainer as Trainer

_HOMES = {
    "Callback": "callbacks",
    "LanguageModelling": "objective",
    "Notice": "callbacks",
    "StopTraining": "callbacks",
    "TrainSpec": "declarative",
    "Trainer": "trainer",
    "TrainingConfig": "config",
    "train_from_yaml": "declarative",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
