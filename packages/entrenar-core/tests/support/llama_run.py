"""A model in GGUF run by llama.cpp, through llama-cpp-python: its logits and its embeddings."""

import ctypes
from pathlib import Path
from typing import Any, Self

import numpy as np

import llama_log
from entrenar_core.autograd import no_grad

NEAR = 1e-3
"""Two likeliest ids whose logits are no farther apart are as good as equal."""

_F32 = 0


class LlamaModel:
    """The model in the file at `path`, with float32 key-value cache and no flash attention.

    `warnings` are llama.cpp's lines of level warn and up while it loaded. With `adapter`, a LoRA
    adapter in GGUF is applied.
    """

    def __init__(
        self, path: Path, *, context: int = 256, adapter: Path | None = None, embeds: bool = False
    ) -> None:
        import llama_cpp

        self._lib = llama_cpp
        lines = llama_log.listen()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        self.warnings = llama_log.warnings(lines)
        assert self._model, self.warnings
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.width = llama_cpp.llama_model_n_embd(self._model)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = context
        options.n_threads = options.n_threads_batch = (
            1  # threads spin while they wait, which a busy machine punishes
        )
        options.type_k = options.type_v = _F32
        options.flash_attn_type = 0
        options.embeddings = embeds
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        assert self._context, lines[-5:]
        if adapter is not None:
            self._adapter = llama_cpp.llama_adapter_lora_init(self._model, str(adapter).encode())
            assert self._adapter, lines[-5:]
            _apply(llama_cpp, self._context, self._adapter)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """The logits (T, V) of one sequence of ids (T,)."""
        lib = self._lib
        self._forget()
        self._decode(ids, 0)
        found = [lib.llama_get_logits_ith(self._context, i) for i in range(len(ids))]
        return np.stack([np.ctypeslib.as_array(row, (self.size,)).copy() for row in found])

    def continued(self, ids: np.ndarray, count: int) -> list[int]:
        """The `count` likeliest ids after `ids`, one after the other."""
        self._forget()
        self._decode(ids, 0)
        found: list[int] = []
        last = len(ids) - 1
        for _ in range(count):
            row = self._lib.llama_get_logits_ith(self._context, last)
            found.append(int(np.ctypeslib.as_array(row, (self.size,)).argmax()))
            self._decode(np.array(found[-1:]), len(ids) + len(found) - 1)
            last = 0
        return found

    def embedding(self, ids: np.ndarray) -> np.ndarray:
        """The sentence embedding (D,) of one sequence."""
        self._forget()
        self._decode(ids, 0)
        found = self._lib.llama_get_embeddings_seq(self._context, 0)
        return np.ctypeslib.as_array(found, (self.width,)).copy()

    def _forget(self) -> None:
        memory = self._lib.llama_get_memory(self._context)
        if memory:
            self._lib.llama_memory_clear(memory, True)

    def _decode(self, ids: np.ndarray, start: int) -> None:
        batch = self._lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids.tolist()):
                batch.token[i] = token
                batch.pos[i] = start + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = True
            assert self._lib.llama_decode(self._context, batch) == 0
        finally:
            self._lib.llama_batch_free(batch)

    def close(self) -> None:
        """Frees the model."""
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _apply(lib: Any, context: Any, adapter: Any) -> None:
    adapters, scales = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(1.0)
    assert lib.llama_set_adapters_lora(context, adapters, 1, scales) == 0


def quantized_by_llama(source: Path, output: Path, file_type: int) -> Path:
    """The file that llama.cpp's own quantizer makes of `source`."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = file_type
    options.nthread = 2
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(output).encode(), ctypes.byref(options)
    )
    assert status == 0
    return output


def nats(logits, ids):
    """−log p of every id (T,) but the first by logits (T, V), added up."""
    shifted = logits[:-1] - logits[:-1].max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, ids[1:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).sum())


def agrees(model, prompt, continued):
    """Whether `continued` is ours, up to where our two likeliest are as good as equal."""
    text = np.concatenate([prompt, continued])
    with no_grad():
        logits = model(text[None]).numpy()[0, len(prompt) - 1 : -1]  # (NEW, V)
    best = logits.argmax(axis=1)
    differs = np.flatnonzero(best != continued)
    if not differs.size:
        return True
    row = np.sort(logits[differs[0]])
    return row[-1] - row[-2] <= NEAR
