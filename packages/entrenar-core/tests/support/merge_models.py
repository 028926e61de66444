"""Methods of merging as far as a plan sees them, their parameters, and models without numbers."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from entrenar_core.io.yaml_file import parse_yaml
from entrenar_core.merge.config import MergeConfig, parse_merge_config
from entrenar_core.merge.method import METHODS, PerInput, PerModel, method
from entrenar_core.merge.plan import Plan, PlannedTensor, plan
from entrenar_core.merge.reference import ModelRef


def linear(group, *, weight: PerInput, normalize: bool = True): ...
def slerp(group, *, t: float): ...
def passthrough(group, *, scale: PerInput = None): ...  # type: ignore[assignment]
def karcher(group, *, max_iter: int = 10, tol: float = 1e-5): ...
def ram(group, *, epsilon: float = 1e-5): ...
def model_stock(group, *, filter_wise: bool = False): ...
def sce(group, *, int8_mask: bool = False, select_topk: float = 1.0): ...
def multislerp(group, *, weight: PerModel, normalize_weights: bool = True, eps: float = 1e-8): ...


def nuslerp(
    group, *, weight: PerModel, nuslerp_row_wise: bool = False, nuslerp_flatten: bool = True
): ...


def ties(
    group, *, int8_mask: bool = False, normalize: bool = True, rescale: bool = False,
    lambda_: float = 1.0, weight: PerModel, density: PerModel = 1.0,  # type: ignore[assignment]
): ...  # fmt: skip


def della(
    group, *, int8_mask: bool = False, normalize: bool = True, rescale: bool = True,
    lambda_: float = 1.0, weight: PerModel, density: PerModel = 1.0,  # type: ignore[assignment]
    epsilon: PerModel = 0.15,  # type: ignore[assignment]
): ...  # fmt: skip


def _register() -> None:
    method("linear", source="", base="ignored")(linear)
    method("passthrough", source="", base="ignored", inputs=(1, 1))(passthrough)
    method("karcher", source="", base="ignored")(karcher)
    method("slerp", source="", inputs=(2, 2), symmetric=False, lone="any")(slerp)
    method(
        "nuslerp", source="", base="optional", models=(2, 2), symmetric=False, lone="any"
    )(nuslerp)  # fmt: skip
    method("multislerp", source="", base="optional", models=(1, None))(multislerp)
    method("model_stock", source="", inputs=(3, None), lone="base or skip")(model_stock)
    method("nearswap", source="", inputs=(2, 2), lone="base")(slerp)
    for name, function in {"ties": ties, "della": della, "ram": ram, "sce": sce}.items():
        method(name, source="")(function)


@contextmanager
def stand_ins(*, real: bool = False) -> Iterator[None]:
    """Within it METHODS has the methods above; with `real`, those that are there come first."""
    importlib.import_module("entrenar_core.merge.methods")  # it fills the table
    before = dict(METHODS)
    METHODS.clear()
    _register()
    if real:
        METHODS.update(before)
    try:
        yield
    finally:
        METHODS.clear()
        METHODS.update(before)


def config_of(text: str) -> MergeConfig:
    """The config that YAML text is, under the name merge.yaml."""
    return parse_merge_config(parse_yaml(text, "merge.yaml"))


@dataclass
class Toy:
    """A model of names and shapes."""

    shapes: dict[str, tuple[int, ...]]
    layers: int = 4
    model_type: str = "llama"
    vocabulary: tuple[str, ...] = ("model.embed_tokens.weight", "lm_head.weight")
    tied: Mapping[str, str] = field(default_factory=dict)
    kind: str = "bfloat16"

    def names(self) -> list[str]:
        return list(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def dtype(self, name: str) -> str:
        return self.kind


PARTS = {
    "input_layernorm.weight": (8,),
    "self_attn.q_proj.weight": (8, 8),
    "mlp.up_proj.weight": (16, 8),
}


def llama(layers: int = 4, *, rows: int = 32, tied: bool = False, **changes: Any) -> Toy:
    """A model of Llama's names with three tensors in a layer."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, 8)}
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.{part}": shape for part, shape in PARTS.items()}
    shapes["model.norm.weight"] = (8,)
    if tied:
        changes["tied"] = {"lm_head.weight": "model.embed_tokens.weight"}
    else:
        shapes["lm_head.weight"] = (rows, 8)
    return Toy(shapes, layers, **changes)


def planned(text: str, **models: Toy) -> Plan:
    """The plan of a config whose models are called as the keywords are; others are Llamas."""
    config = config_of(text)
    return plan(config, {ref: models.get(str(ref)) or llama() for ref in config.models})


def by_name(result: Plan) -> dict[str, PlannedTensor]:
    """The tensors of a plan by name."""
    return {tensor.name: tensor for tensor in result.tensors}


def ref(text: str) -> ModelRef:
    """A model by mergekit's text."""
    return ModelRef.parse(text)
