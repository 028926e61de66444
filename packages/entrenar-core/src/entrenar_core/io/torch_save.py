"""Tensors in files of torch.save (.pth, .pt, .bin), without PyTorch: reading and writing them."""

from entrenar_core.io.kinds import is_torch
from entrenar_core.io.torch_file import TorchFile, TorchTensor
from entrenar_core.io.torch_folder import TorchFolder
from entrenar_core.io.torch_write import write_torch

__all__ = ["TorchFile", "TorchFolder", "TorchTensor", "is_torch", "write_torch"]
