"""Optimizers over flat buffers, and learning-rate schedules."""

from .adamw import AdamW as AdamW
from .schedule import learning_rate as learning_rate
