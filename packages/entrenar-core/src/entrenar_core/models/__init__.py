"""Architectures, one file each, with the tensor names of their Hugging Face checkpoints."""

from entrenar_core.models.base import from_config as from_config
from entrenar_core.models.base import load as load
from entrenar_core.models.base import parameter_count as parameter_count
from entrenar_core.models.base import parameter_shapes as parameter_shapes
from entrenar_core.models.base import read_config as read_config
from entrenar_core.models.base import save as save
from entrenar_core.models.base import with_layers as with_layers
from entrenar_core.models.generate import generate as generate
from entrenar_core.models.generate import new_text as new_text
from entrenar_core.models.reference import reference_config as reference_config
from entrenar_core.models.relabel import relabel as relabel
from entrenar_core.models.sentence import embed as embed
from entrenar_core.models.source import hash_of_model as hash_of_model
from entrenar_core.models.source import model_files as model_files
from entrenar_core.models.source import stored_bytes as stored_bytes
