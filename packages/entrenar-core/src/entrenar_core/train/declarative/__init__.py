"""Training as one YAML file says: what it may say, and what is done."""

from entrenar_core.train.declarative.report import TrainReport as TrainReport
from entrenar_core.train.declarative.run import plan as plan
from entrenar_core.train.declarative.run import train as train
from entrenar_core.train.declarative.run import train_from_yaml as train_from_yaml
from entrenar_core.train.declarative.spec import TrainSpec as TrainSpec
from entrenar_core.train.declarative.spec import resolve as resolve
