"""The tokenizer of a model, in a Hugging Face folder or in a GGUF file."""

from pathlib import Path

from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.io.gguf import GGUFFile, is_gguf

__all__ = ["has_tokenizer", "load_tokenizer"]

TOKENS = "tokenizer.ggml.tokens"


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the model at `path`; what is in a file decides, not what it is called.

    Raises what `Tokenizer.load` raises, and FormatError and UnsupportedError for a GGUF file
    without a tokenizer that can be rebuilt.
    """
    if not is_gguf(path):
        return Tokenizer.load(path)
    with GGUFFile(path) as file:
        keys = {key: file.metadata.value(key) for key in file.metadata}
    return Tokenizer.from_json(*tokenizer_json_from_gguf(keys, where=str(path)), where=str(path))


def has_tokenizer(path: Path) -> bool:
    """Whether there is a tokenizer beside the model's weights."""
    if not is_gguf(path):
        return (path / "tokenizer.json").is_file()
    with GGUFFile(path) as file:
        return TOKENS in file.metadata
