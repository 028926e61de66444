"""The tokenizer of a model, in a Hugging Face folder, a GGUF file or an APR file."""

from pathlib import Path

from entrenar_common.errors import NotFoundError
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.io.apr import APRFile, is_apr
from entrenar_core.io.gguf import GGUFFile, is_gguf

__all__ = ["has_tokenizer", "load_tokenizer"]

TOKENS = "tokenizer.ggml.tokens"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer", "tokenizer_config"
"""Where the metadata of an APR file have the content of the files of these names."""


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the model at `path`; what is in a file decides, not what it is called.

    Raises what `Tokenizer.load` raises, and FormatError and UnsupportedError for a GGUF file
    without a tokenizer that can be rebuilt.
    """
    if is_apr(path):
        return _of_apr(path)
    if not is_gguf(path):
        return Tokenizer.load(path)
    with GGUFFile(path) as file:
        found = tokenizer_json_from_gguf(file.metadata, where=str(path))
    return Tokenizer.from_json(*found, where=str(path))


def has_tokenizer(path: Path) -> bool:
    """Whether there is a tokenizer beside the model's weights."""
    if is_apr(path):
        with APRFile(path) as file:
            return TOKENIZER in file.metadata
    if not is_gguf(path):
        return (path / "tokenizer.json").is_file()
    with GGUFFile(path) as file:
        return TOKENS in file.metadata


def _of_apr(path: Path) -> Tokenizer:
    with APRFile(path) as file:
        found = file.metadata.get(TOKENIZER)
        config = file.metadata.get(TOKENIZER_CONFIG, {})
    if not isinstance(found, dict) or not isinstance(config, dict):
        raise NotFoundError(
            f"{path}: its metadata have no {TOKENIZER}",
            hint="export the model again, from a folder with a tokenizer",
        )
    return Tokenizer.from_json(found, config, where=str(path))
