"""llama.cpp's tokenizer of a GGUF, through llama-cpp-python, and what it says while loading."""

from collections.abc import Mapping
from pathlib import Path

import llama_log
from entrenar_core.io.gguf_values import Value, text
from entrenar_core.io.gguf_write import write_gguf


class LlamaVocab:
    """The vocabulary of the file at `path`; `warnings` are llama.cpp's lines of level warn and up.

    Loading it fails the test that loads it where llama.cpp gives up.
    """

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self._lib = llama_cpp
        lines = llama_log.listen()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        self.warnings = llama_log.warnings(lines)
        assert model, self.warnings
        self._model = model
        self._vocab = llama_cpp.llama_model_get_vocab(model)

    def close(self) -> None:
        """Frees the model."""
        self._lib.llama_model_free(self._model)

    def encode(self, content: str, *, specials: bool, around: bool = True) -> list[int]:
        """The ids of a text: `specials` lets control tokens in it be found, `around` adds bos and
        eos where the vocabulary says so."""
        raw = content.encode()
        room = len(raw) + 8
        ids = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, around, specials)
        assert 0 <= count <= room
        return list(ids[:count])


def write_vocab(path: Path, keys: Mapping[str, Value]) -> Path:
    """A GGUF with no tensors that llama.cpp loads for its vocabulary alone."""
    arch = "bert" if keys["tokenizer.ggml.model"].content == "bert" else "llama"
    write_gguf(path, {"general.architecture": text(arch), **keys}, [], lambda _: None)  # type: ignore[arg-type, return-value]
    return path
