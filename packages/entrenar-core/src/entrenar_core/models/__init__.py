"""Architectures, one file each, with the tensor names of their Hugging Face checkpoints."""

from entrenar_core.models.base import from_config as from_config
from entrenar_core.models.base import load as load
from entrenar_core.models.base import read_config as read_config
from entrenar_core.models.base import save as save
from entrenar_core.models.base import with_layers as with_layers
from entrenar_core.models.generate import generate as generate
