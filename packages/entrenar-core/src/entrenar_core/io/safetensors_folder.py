"""A model folder's weights in safetensors files."""

from entrenar_core.io.kinds import SAFETENSORS_NAMES
from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.io.tensor_folder import TensorFolder


class SafetensorsFolder(TensorFolder):
    """`model.safetensors` of a folder, else the shards of `model.safetensors.index.json`."""

    single_name, index_name = SAFETENSORS_NAMES
    open_file = SafetensorsFile
