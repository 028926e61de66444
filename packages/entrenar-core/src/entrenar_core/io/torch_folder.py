"""A model folder's weights in PyTorch's files."""

from entrenar_core.io.kinds import TORCH_NAMES
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.io.torch_file import TorchFile


class TorchFolder(TensorFolder):
    """`pytorch_model.bin` of a folder, else the shards of `pytorch_model.bin.index.json`."""

    single_name, index_name = TORCH_NAMES
    open_file = TorchFile
