"""Optimizers over flat buffers, and learning-rate schedules."""

from entrenar_core.optim.adamw import AdamW as AdamW
from entrenar_core.optim.schedule import learning_rate as learning_rate
