"""GGUF files, llama.cpp's: reading one or a model in several, and writing them."""

from entrenar_core.io.gguf_file import GGUFFile
from entrenar_core.io.gguf_files import GGUFFiles
from entrenar_core.io.gguf_header import GGUFTensor
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.gguf_values import (
    Value,
    ValueType,
    array,
    f32,
    flag,
    i32,
    scalar,
    text,
    texts,
    u32,
)
from entrenar_core.io.gguf_write import Planned, file_size, write_gguf
from entrenar_core.io.kinds import is_gguf

__all__ = [
    "GGUFFile",
    "GGUFFiles",
    "GGUFTensor",
    "Metadata",
    "Planned",
    "Value",
    "ValueType",
    "array",
    "f32",
    "file_size",
    "flag",
    "i32",
    "is_gguf",
    "scalar",
    "text",
    "texts",
    "u32",
    "write_gguf",
]
