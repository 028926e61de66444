"""One side of the training-step benchmark, in a process of its own that steps when it is told to.

Commands come as `processes.py` has it: `{"do": "step", "batch": 3}`, `{"do": "multiply", "m": …,
"n": …, "k": …}`, `{"do": "describe"}`, `{"do": "peak"}`. A side is the name of a library's way to
take a step, with `-bf16` after it where matrices are multiplied in bfloat16.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from processes import serve

LEARNING_RATE, MAX_NORM, WEIGHT_DECAY = 2e-5, 1.0, 0.01
"""At 1e-4 and without warm-up GPT-2's loss jumps, and how far two sides are apart says more of the
jumps than of the sides: after nine steps PyTorch in float32 is 1.6e-3 from itself in float64."""
BATCHES = 4
MASKED = 0.15
"""The share of tokens that a masked language model predicts."""
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "qlora": {},
}
"""What can be trained instead of weights → what PEFT is told besides rank and modules. With qlora
the base is in NF4."""
RANK = 16


@dataclass(frozen=True)
class Shape:
    """A model by its architecture (`model_type`) and sizes, of a LLaMA also whether its head is
    tied, and the batch that it is trained on; `adapter`, if there is one, is what is trained of it,
    and `teacher` whom it learns from."""

    hidden: int
    layers: int
    heads: int
    inner: int
    batch: int
    time: int
    vocabulary: int = 32000
    tied: bool = False
    architecture: str = "llama"
    adapter: str = ""
    teacher: "Shape | None" = None

    @classmethod
    def of(cls, text: str) -> "Shape":
        """From JSON, as `asdict` of one gives it."""
        given = json.loads(text)
        teacher = given.pop("teacher")
        return cls(**given, teacher=cls(**teacher) if teacher else None)

    @property
    def tokens(self) -> int:
        return self.batch * self.time

    def config(self) -> dict[str, Any]:
        """The keys of a Hugging Face `config.json`. Without dropout, so that losses can be
        compared."""
        return {"vocab_size": self.vocabulary, **getattr(self, f"_{self.architecture}")()}

    def _llama(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "intermediate_size": self.inner,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": self.tied,
        }

    def _gpt2(self) -> dict[str, Any]:
        return {
            "n_embd": self.hidden,
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_inner": self.inner,
            "n_positions": 1024,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }

    def _bert(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "max_position_embeddings": 512,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }

    def batch_of(self, index: int) -> "Batch":
        """Batch number `index`, the same on every side: random ids, and what each position is to
        predict. There are only `BATCHES` different ones, so that the losses fall and say more than
        the first step does."""
        rng = np.random.default_rng(index % BATCHES)
        ids = rng.integers(0, self.vocabulary, (self.batch, self.time))
        targets = np.full(ids.shape, -100)
        if self.architecture == "bert":
            masked = rng.random(ids.shape) < MASKED
            targets[masked] = ids[masked]
            return Batch(np.where(masked, 103, ids), targets, targets)
        targets[:, :-1] = ids[:, 1:]
        return Batch(ids, targets, ids)


@dataclass(frozen=True)
class Batch:
    """ids and targets (batch, time), -100 where nothing is predicted. `labels` are what
    transformers calls so: for a causal model the ids, which it shifts by itself."""

    ids: np.ndarray
    targets: np.ndarray
    labels: np.ndarray


class Entrenar:
    """Steps as `entrenar_core.train` takes them."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        from entrenar_core.train.process import keep_freed_memory

        keep_freed_memory()
        from entrenar_core import models, optim

        self.shape, self.precision = shape, precision
        base = {"quantize": "nf4"} if shape.adapter == "qlora" else {}
        self.model = models.load(weights, **base)
        trained = self.model.named_parameters()
        if shape.adapter:
            from entrenar_core import lora

            folder = Path(weights, "adapter")
            trained = lora.load_adapter(self.model, folder, trainable=True).parameters()
        self.optimizer = optim.AdamW(trained, weight_decay=WEIGHT_DECAY)

    def step(self, batch: Batch) -> float:
        with self._multiplied():
            loss = self._loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step(LEARNING_RATE, max_norm=MAX_NORM)
        return loss.item()

    def _multiplied(self) -> AbstractContextManager[None]:
        """The setting `training.mixed_precision` for what is done inside."""
        from entrenar_core.autograd.precision import BF16, WHOLE, multiplied_in

        return multiplied_in(BF16 if self.precision == "bf16" else WHOLE)

    def _loss(self, batch: Batch) -> Any:
        from entrenar_core.autograd import ops

        if self.shape.architecture == "bert":
            return self.model.loss(batch.ids, batch.labels)
        return ops.linear_cross_entropy(
            self.model.hidden(batch.ids),
            self.model.output_weight,
            batch.targets,
            normalizer=int((batch.targets >= 0).sum()),
        )

    def product(self, x: np.ndarray, weight: np.ndarray) -> Callable[[], Any]:
        from entrenar_core import kernels

        out = np.empty((len(x), len(weight)), np.float32)
        multiply = kernels.matmul_bf16 if self.precision == "bf16" else kernels.matmul
        return lambda: multiply(x, weight, trans_b=True, out=out)

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
    """Steps of transformers' model in PyTorch, as they are usually written."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        import torch
        import transformers

        self.precision = precision
        torch.manual_seed(0)
        config, model = TRANSFORMERS[shape.architecture]
        options = {} if shape.architecture == "bert" else {"use_cache": False}
        self.model = getattr(transformers, model)(
            getattr(transformers, config)(**shape.config(), **options)
        )
        if shape.adapter:
            self.model = _adapted(self.model, shape.adapter, Path(weights, "adapter"))
        trained = [p for p in self.model.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim >= 2]
        others = [p for p in trained if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        self.forward: Any = self.model

    def step(self, batch: Batch) -> float:
        import torch

        with self._autocast():
            loss = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        return loss.item()

    def _autocast(self) -> AbstractContextManager[Any]:
        """Around the forward pass alone, as PyTorch advises: backward follows it."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def _loss(self, batch: Batch) -> Any:
        import torch

        ids, labels = torch.from_numpy(batch.ids), torch.from_numpy(batch.labels)
        return self.forward(input_ids=ids, labels=labels).loss

    def product(self, x: np.ndarray, weight: np.ndarray) -> Callable[[], Any]:
        import torch

        left, right = torch.from_numpy(x), torch.from_numpy(weight).t()
        if self.precision == "bf16":  # as under autocast, which converts and leaves bfloat16
            return lambda: torch.mm(left.bfloat16(), right.bfloat16())
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
        """Write the weights that every side starts from; the model is of no use afterwards."""
        if hasattr(self.model, "peft_config"):
            self.model.save_pretrained(Path(folder, "adapter"))
            self.model = self.model.unload()
        self.model.save_pretrained(folder)


def _adapted(model: Any, adapter: str, folder: Path) -> Any:
    """The model with the adapter in `folder`, or with a new one where there is none yet."""
    import peft

    if adapter == "qlora":
        _quantize(model)
    if folder.is_dir():
        return peft.PeftModel.from_pretrained(model, folder, is_trainable=True)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear",
        **ADAPTERS[adapter],
    )  # fmt: skip
    return peft.get_peft_model(model, settings)


def _quantize(model: Any) -> None:
    """Put bitsandbytes' 4-bit layers in the place of all linear ones but the head."""
    import bitsandbytes
    import torch

    for name, layer in list(model.named_modules()):
        if not isinstance(layer, torch.nn.Linear) or name == "lm_head":
            continue
        stored = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None,
            compute_dtype=torch.float32, quant_type="nf4",
        )  # fmt: skip
        stored.load_state_dict(layer.state_dict())
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, stored.to("cpu"))


class TorchCompiled(Torch):
    """The same with `torch.compile(model)`."""

    def __init__(self, shape: Shape, weights: str, precision: str):
        import torch

        super().__init__(shape, weights, precision)
        self.forward = torch.compile(self.model)


TRANSFORMERS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
    "bert": ("BertConfig", "BertForMaskedLM"),
}
"""The classes of each architecture: its config and the model with its language-model head."""

SIDES = {"eager": Torch, "compiled": TorchCompiled, "entrenar": Entrenar}


class Worker:
    """Answers commands for one side."""

    def __init__(self, side: Any, shape: Shape):
        self.side, self.shape = side, shape

    def step(self, *, batch: int) -> dict[str, Any]:
        given = self.shape.batch_of(batch)
        begun, busy = time.perf_counter(), time.process_time()
        loss = self.side.step(given)
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

    def save(self, *, folder: str) -> dict[str, Any]:
        self.side.save(folder)
        return {}


def main(sides: Mapping[str, Any] = SIDES) -> None:
    """`step_worker.py SIDE SHAPE-AS-JSON WEIGHTS-FOLDER`"""
    side, shape, weights = sys.argv[1:]
    name, _, precision = side.partition("-")

    def start() -> dict[str, Callable[..., dict[str, Any]]]:
        wanted = Shape.of(shape)
        worker = Worker(sides[name](wanted, weights, precision or "float32"), wanted)
        names = ("step", "multiply", "describe", "save")
        return {name: getattr(worker, name) for name in names}

    serve(start)


if __name__ == "__main__":
    main()
