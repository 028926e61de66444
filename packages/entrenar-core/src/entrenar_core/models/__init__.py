"""Architectures, one file each, with the tensor names of their Hugging Face checkpoints."""

from .base import from_config as from_config
from .base import load as load
from .base import read_config as read_config
from .base import save as save
from .generate import generate as generate
