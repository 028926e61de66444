"""One side of the training-step benchmark, in a process of its own that steps when it is told to.

Commands come as one JSON object a line on standard input, answers go the same way to standard
output: `{"do": "step", "batch": 3}`, `{"do": "multiply", "m": …, "n": …, "k": …}`, `{"do":
"describe"}`, `{"do": "peak"}`. Between commands the process waits in a read, and every answer says
how much CPU time it used since the one before, so that a library whose threads spin is seen.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LEARNING_RATE, MAX_NORM, WEIGHT_DECAY = 1e-4, 1.0, 0.01
BATCHES = 4


@dataclass(frozen=True)
class Shape:
    """A LLaMA model with an untied head, and the batch that it is trained on."""

    hidden: int
    layers: int
    heads: int
    inner: int
    batch: int
    time: int
    vocabulary: int = 32000

    @property
    def tokens(self) -> int:
        return self.batch * self.time

    def config(self) -> dict[str, Any]:
        """The keys of a Hugging Face `config.json`."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        }

    def ids(self, index: int) -> np.ndarray:
        """Batch number `index`: (batch, time) random ids, the same on every side. There are only
        `BATCHES` different ones, so that the losses fall and say more than the first step does."""
        rng = np.random.default_rng(index % BATCHES)
        return rng.integers(0, self.vocabulary, (self.batch, self.time))


class Entrenar:
    """Steps as `entrenar_core.train` takes them."""

    def __init__(self, shape: Shape, weights: str):
        from entrenar_core.train.process import keep_freed_memory

        keep_freed_memory()
        from entrenar_core import models, optim

        self.shape = shape
        self.model = models.load(weights)
        self.optimizer = optim.AdamW(self.model.named_parameters(), weight_decay=WEIGHT_DECAY)

    def step(self, ids: np.ndarray) -> float:
        from entrenar_core.autograd import ops

        targets = np.full(ids.shape, -100)
        targets[:, :-1] = ids[:, 1:]
        loss = ops.linear_cross_entropy(
            self.model.hidden(ids),
            self.model.lm_head.weight,
            targets,
            normalizer=self.shape.batch * (self.shape.time - 1),
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step(LEARNING_RATE, max_norm=MAX_NORM)
        return loss.item()

    def product(self, x: np.ndarray, weight: np.ndarray) -> Callable[[], Any]:
        from entrenar_core import kernels

        out = np.empty((len(x), len(weight)), np.float32)
        return lambda: kernels.matmul(x, weight, trans_b=True, out=out)

    def describe(self) -> dict[str, Any]:
        import ctypes

        import numba

        from entrenar_core.environment import environment

        # dlsym on the extension module also searches the libraries that it depends on
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
        core = "unknown"
        with suppress(AttributeError):
            library.scipy_openblas_get_corename64_.restype = ctypes.c_char_p
            core = library.scipy_openblas_get_corename64_().decode()
        return {
            **asdict(environment()),
            "core": core,
            "threads": numba.get_num_threads(),
            "threading": numba.threading_layer(),
        }


class Torch:
    """Steps of transformers' LlamaForCausalLM in PyTorch, as they are usually written."""

    def __init__(self, shape: Shape, _weights: str):
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(**shape.config(), use_cache=False))
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        self.forward: Any = self.model

    def step(self, ids: np.ndarray) -> float:
        import torch

        tokens = torch.from_numpy(ids)
        loss = self.forward(input_ids=tokens, labels=tokens).loss
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        return loss.item()

    def product(self, x: np.ndarray, weight: np.ndarray) -> Callable[[], Any]:
        import torch

        left, right = torch.from_numpy(x), torch.from_numpy(weight).t()
        out = torch.empty(len(x), len(weight))
        return lambda: torch.mm(left, right, out=out)

    def describe(self) -> dict[str, Any]:
        import torch
        import transformers

        lines = torch.__config__.show().splitlines()
        blas = [line.strip(" -").split(" for ")[0] for line in lines if "Math Kernel" in line]
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "blas": blas[0] if blas else "not MKL",
            "threads": torch.get_num_threads(),
        }

    def save(self, folder: str) -> None:
        """Write the weights that every side starts from."""
        self.model.save_pretrained(folder)


class TorchCompiled(Torch):
    """The same with `torch.compile(model)`."""

    def __init__(self, shape: Shape, weights: str):
        import torch

        super().__init__(shape, weights)
        self.forward = torch.compile(self.model)


SIDES = {"eager": Torch, "compiled": TorchCompiled, "entrenar": Entrenar}


class Worker:
    """Answers commands for one side."""

    def __init__(self, side: str, shape: Shape, weights: str):
        self.shape = shape
        self.side = SIDES[side](shape, weights)

    def step(self, *, batch: int) -> dict[str, Any]:
        ids = self.shape.ids(batch)
        begun, busy = time.perf_counter(), time.process_time()
        loss = self.side.step(ids)
        seconds = time.perf_counter() - begun
        return {
            "loss": loss,
            "seconds": seconds,
            "cores": (time.process_time() - busy) / seconds,
        }

    def multiply(self, *, m: int, n: int, k: int) -> dict[str, Any]:
        """x (m, k) times the transpose of a weight (n, k): GFLOP/s, the median of a few calls."""
        rng = np.random.default_rng(0)
        x, weight = (rng.standard_normal((rows, k), np.float32) for rows in (m, n))
        product = self.side.product(x, weight)
        product()
        times = []
        while len(times) < 3 or (sum(times) < 0.1 and len(times) < 50):
            begun = time.perf_counter()
            product()
            times.append(time.perf_counter() - begun)
        return {"gflops": 2e-9 * m * n * k / float(np.median(times))}

    def describe(self) -> dict[str, Any]:
        return self.side.describe()

    def peak(self) -> dict[str, Any]:
        """The most memory that this process, or a child of it that has ended, has used."""
        unit = 1 if sys.platform == "darwin" else 1024
        users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return {"bytes": unit * max(resource.getrusage(user).ru_maxrss for user in users)}

    def save(self, *, folder: str) -> dict[str, Any]:
        self.side.save(folder)
        return {}


COMMANDS = {
    name: getattr(Worker, name) for name in ("step", "multiply", "describe", "peak", "save")
}


def serve(worker: Worker, lines: Any, answers: Any) -> None:
    """Answer every line; say what CPU time went by while waiting for it."""
    wall, busy = time.perf_counter(), time.process_time()
    for line in lines:
        command = json.loads(line)
        waited = max(time.perf_counter() - wall, 1e-9)
        idle_cores = (time.process_time() - busy) / waited
        answer = COMMANDS[command.pop("do")](worker, **command)
        wall, busy = time.perf_counter(), time.process_time()
        answers.write(json.dumps({**answer, "idle_cores": idle_cores, "waited": waited}) + "\n")
        answers.flush()


def main() -> None:
    """`step_worker.py SIDE SHAPE-AS-JSON WEIGHTS-FOLDER`"""
    # standard output is the driver's: what the libraries print goes to standard error
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side, shape, weights = sys.argv[1:]
    worker = Worker(side, Shape(**json.loads(shape)), weights)
    answers.write("{}\n")
    answers.flush()
    serve(worker, sys.stdin, answers)


if __name__ == "__main__":
    main()
