"""Training: the loop, its configuration, callbacks, checkpoints and the run record.

    from entrenar_core.train import Trainer, TrainingConfig, train_from_yaml

The names here are loaded when they are first used: a configuration is read without what trains.
"""

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

_CALLBACKS = ("Callback", "Notice", "StopTraining")
_DECLARATIVE = ("TrainSpec", "train_from_yaml")
_LONE = ("LanguageModelling", "Trainer", "TrainingConfig")


def __getattr__(name: str) -> Any:
    if name in _CALLBACKS:
        from entrenar_core.train import callbacks as home
    elif name in _DECLARATIVE:
        from entrenar_core.train import declarative as home
    elif name == "LanguageModelling":
        from entrenar_core.train import objective as home
    elif name == "Trainer":
        from entrenar_core.train import trainer as home
    elif name == "TrainingConfig":
        from entrenar_core.train import config as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_CALLBACKS, *_DECLARATIVE, *_LONE})
