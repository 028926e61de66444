"""One side of the decoding benchmark, in a process of its own that decodes when it is told to.

    decoding_worker.py LIBRARY COMPUTE MODEL

Commands come as `processes.py` has it: `{"do": "decode", "texts": 16, "prompt": 32, "new": 128}`,
`{"do": "peak"}`. The ids of prompts are drawn; the likeliest token is taken, and none ends a text.
For llama.cpp this needs NumPy and llama_cpp alone, so it runs where nothing of ours is installed.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from processes import serve

FIRST_ID, LAST_ID = 10, 500
"""Between which ids of prompts are drawn: those that have a meaning of their own are below."""


def prompts(texts: int, length: int) -> np.ndarray:
    """The ids (texts, length) that every side continues."""
    return np.random.default_rng(0).integers(FIRST_ID, LAST_ID, (texts, length))


class Entrenar:
    """As `entrenar-distill generate` decodes."""

    def __init__(self, compute: str, model: str):
        from entrenar_core.train.process import keep_freed_memory

        keep_freed_memory()
        from entrenar_core.models.computing import load_for

        self.model, self.compute = load_for(Path(model), compute), compute

    def decode(self, ids: np.ndarray, new: int) -> np.ndarray:
        from entrenar_core import models
        from entrenar_core.models.computing import computed_in

        with computed_in(self.compute):
            found = models.generate(self.model, list(ids), max_new_tokens=new, eos_ids=())
        return np.stack(found)

    def describe(self) -> dict[str, Any]:
        import numba

        from entrenar_core.environment import environment

        return {**asdict(environment()), "threads": numba.get_num_threads()}


class Transformers:
    """`generate` of transformers, with its key-value cache."""

    def __init__(self, compute: str, model: str):
        import torch
        import transformers

        kind = {"float32": torch.float32, "bf16": torch.bfloat16}[compute]
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=kind).eval()

    def decode(self, ids: np.ndarray, new: int) -> np.ndarray:
        import torch

        given = torch.from_numpy(ids)
        with torch.inference_mode():
            found = self.model.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=new,
                min_new_tokens=new, do_sample=False, use_cache=True, pad_token_id=0,
                eos_token_id=None,
            )  # fmt: skip
        return found.numpy()

    def describe(self) -> dict[str, Any]:
        import torch
        import transformers

        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
        }


class LlamaCpp:
    """llama.cpp, through llama-cpp-python: `compute` is the type that the GGUF file has. A context
    is made for each batch, which is no part of the time."""

    def __init__(self, compute: str, model: str):
        import llama_cpp

        self.lib, self.file = llama_cpp, model
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot read the {compute} file")
        self.size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
        self.room, self.context = (0, 0), None

    def decode(self, ids: np.ndarray, new: int) -> np.ndarray:
        texts, length = ids.shape
        self._ready(texts, length + new)
        lib = self.lib
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        batch = lib.llama_batch_init(texts * length, 0, 1)
        try:
            columns = [*ids.T]
            self._read(batch, ids, 0)
            while len(columns) < length + new:
                columns.append(self._likeliest(texts))
                if len(columns) < length + new:  # the last one is not read again
                    self._read(batch, columns[-1][:, None], len(columns) - 1)
        finally:
            lib.llama_batch_free(batch)
        return np.stack(columns, axis=1)

    def _ready(self, texts: int, length: int) -> None:
        """A context for so many texts of this length."""
        if (texts, length) == self.room:
            return
        lib = self.lib
        if self.context:
            lib.llama_free(self.context)
        options = lib.llama_context_default_params()
        options.n_ctx, options.n_seq_max = texts * length, texts
        options.n_batch = options.n_ubatch = max(texts * length, 64)
        options.n_threads = options.n_threads_batch = self.threads
        self.context = lib.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.room = texts, length

    def _read(self, batch: Any, ids: np.ndarray, start: int) -> None:
        """Go on in each text with its row of `ids`; logits are those of the last ids."""
        texts, length = ids.shape
        batch.n_tokens = texts * length
        for i, token in enumerate(ids.ravel().tolist()):
            text, at = divmod(i, length)
            batch.token[i], batch.pos[i] = token, start + at
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, text
            batch.logits[i] = at == length - 1
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama.cpp decodes no more")

    def _likeliest(self, texts: int) -> np.ndarray:
        """The likeliest token of each text."""
        logits = self.lib.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (texts, self.size)).argmax(axis=1)

    def describe(self) -> dict[str, Any]:
        lines = ctypes.string_at(self.lib.llama_print_system_info()).decode()
        return {"llama_cpp": self.lib.__version__, "built": lines, "threads": self.threads}


LIBRARIES = {"entrenar": Entrenar, "transformers": Transformers, "llama.cpp": LlamaCpp}


class Worker:
    """Answers commands for one side."""

    def __init__(self, side: Any):
        self.side = side

    def decode(self, *, texts: int, prompt: int, new: int) -> dict[str, Any]:
        given = prompts(texts, prompt)
        begun, busy = time.perf_counter(), time.process_time()
        found = self.side.decode(given, new)
        seconds = time.perf_counter() - begun
        if found.shape != (texts, prompt + new):
            raise RuntimeError(f"{found.shape} ids, and {new} new ones were asked for")
        cores = (time.process_time() - busy) / seconds
        return {"seconds": seconds, "cores": cores, "ids": found[:, prompt:].tolist()}

    def describe(self) -> dict[str, Any]:
        return self.side.describe()


def main() -> None:
    library, compute, model = sys.argv[1:]

    def start() -> dict[str, Callable[..., dict[str, Any]]]:
        worker = Worker(LIBRARIES[library](compute, model))
        return {"decode": worker.decode, "describe": worker.describe}

    serve(start)


if __name__ == "__main__":
    main()
