"""Tensors in APR files, JSON documents (docs/apr.md): reading and writing them."""

from entrenar_core.io.apr_file import APRFile
from entrenar_core.io.apr_scan import APRTensor
from entrenar_core.io.apr_write import write_apr
from entrenar_core.io.kinds import is_apr

__all__ = ["APRFile", "APRTensor", "is_apr", "write_apr"]
