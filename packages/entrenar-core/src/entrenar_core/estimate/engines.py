"""The engines that a training can be planned for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.own_inference import own_inference
from entrenar_core.estimate.own_memory import OPTIMIZERS as OWN_OPTIMIZERS
from entrenar_core.estimate.own_memory import own_memory
from entrenar_core.estimate.own_weights import BLOCKS
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import Memory
from entrenar_core.estimate.torch_inference import torch_inference
from entrenar_core.estimate.torch_memory import OPTIMIZERS, torch_memory


@dataclass(frozen=True)
class Engine:
    """What an engine can do, the least restrictive first, and how much memory that takes.

    full, plain, quantized: precisions of a base that is trained, and of one that is frozen, in
    floats and in few bits; blocks: ggml's types, which a base may be in where it is asked for;
    device: where the memory is; memory, inference: what it takes to train
    a model and to run it.
    """

    name: str
    device: str
    full: tuple[str, ...]
    plain: tuple[str, ...]
    quantized: tuple[str, ...]
    blocks: tuple[str, ...]
    optimizers: tuple[str, ...]
    memory: Callable[[ModelShape, Setup], Memory]
    inference: Callable[[ModelShape, Inference], Memory]


ENGINES: Mapping[str, Engine] = {
    "torch": Engine(
        name="torch",
        device="GPU memory",
        full=("bfloat16",),
        plain=("bfloat16",),
        quantized=("int8", "nf4"),
        blocks=(),
        optimizers=tuple(OPTIMIZERS),
        memory=torch_memory,
        inference=torch_inference,
    ),
    "entrenar": Engine(
        name="entrenar",
        device="main memory",
        full=("float32",),
        plain=("float32", "bfloat16"),
        quantized=("int8", "nf4"),
        blocks=tuple(BLOCKS),
        optimizers=tuple(OWN_OPTIMIZERS),
        memory=own_memory,
        inference=own_inference,
    ),
}
