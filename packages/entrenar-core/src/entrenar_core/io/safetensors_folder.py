"""A model folder's weights in safetensors files."""

from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.io.safetensors_write import INDEX_NAME, SINGLE_NAME
from entrenar_core.io.tensor_folder import TensorFolder


class SafetensorsFolder(TensorFolder):
    """`model.safetensors` of a folder, else the shards of `model.safetensors.index.json`."""

    single_name = SINGLE_NAME
    index_name = INDEX_NAME
    open_file = SafetensorsFile
