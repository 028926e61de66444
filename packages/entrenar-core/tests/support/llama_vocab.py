"""llama.cpp's tokenizer of a GGUF, through llama-cpp-python, and what it says while loading."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrenar_core.io.gguf_values import Value, text
from entrenar_core.io.gguf_write import write_gguf

_WARN = 3  # GGML_LOG_LEVEL_WARN; an error is 4, and 5 continues the line before


class LlamaVocab:
    """The vocabulary of the file at `path`; `warnings` are llama.cpp's lines of level warn and up.

    Loading it fails the test that loads it where llama.cpp gives up.
    """

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self._lib = llama_cpp
        self.warnings: list[str] = []
        lines: list[tuple[int, str]] = []

        @llama_cpp.llama_log_callback
        def note(level: int, line: bytes, _: Any) -> None:
            lines.append((level, line.decode("utf-8", "replace")))

        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(note, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        try:
            model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        finally:
            quiet = _quiet(llama_cpp)
            llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.warnings = [line for level, line in lines if level in (_WARN, _WARN + 1)]
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


_KEPT: list[Any] = []


def _quiet(llama_cpp: Any) -> Any:
    """A callback that says nothing; kept, since the library calls it until the process ends."""
    if not _KEPT:

        @llama_cpp.llama_log_callback
        def nothing(level: int, line: bytes, _: Any) -> None:
            del level, line

        _KEPT.append(nothing)
    return _KEPT[0]


def write_vocab(path: Path, keys: Mapping[str, Value]) -> Path:
    """A GGUF with no tensors that llama.cpp loads for its vocabulary alone."""
    arch = "bert" if keys["tokenizer.ggml.model"].content == "bert" else "llama"
    write_gguf(path, {"general.architecture": text(arch), **keys}, [], lambda _: None)  # type: ignore[arg-type, return-value]
    return path
