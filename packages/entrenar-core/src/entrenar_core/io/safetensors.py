"""Tensors in safetensors files: reading one file or a model folder, and writing them."""

from entrenar_core.io.files import Written
from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.io.safetensors_folder import SafetensorsFolder
from entrenar_core.io.safetensors_header import TensorInfo
from entrenar_core.io.safetensors_write import write_file, write_folder

__all__ = [
    "SafetensorsFile",
    "SafetensorsFolder",
    "TensorInfo",
    "Written",
    "write_file",
    "write_folder",
]
