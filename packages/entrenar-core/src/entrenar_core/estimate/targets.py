"""Which modules adapters are put on, by what users write for them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from entrenar_core.lora.config import ALL_LINEAR, LoraConfig
from entrenar_core.lora.targets import targets

_ATTENTION = {
    "bert": ("query", "key", "value", "attention.output.dense"),
    "roberta": ("query", "key", "value", "attention.output.dense"),
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin"),
    "gpt2": ("c_attn", "attn.c_proj"),
}
_FEW = {
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "distilbert": ("q_lin", "v_lin"),
    "gpt2": ("c_attn",),
}


def usual_targets(model_type: str) -> list[tuple[str, ...]]:
    """What is usually adapted in an architecture, the most first: all linear layers (Dettmers et
    al. 2023, arXiv:2305.14314, §4), the projections of attention, and the two that the LoRA paper
    tried first (Hu et al. 2021, arXiv:2106.09685, §7.1), which are PEFT's defaults."""
    attention = _ATTENTION.get(model_type, ("q_proj", "k_proj", "v_proj", "o_proj"))
    few = _FEW.get(model_type, ("q_proj", "v_proj"))
    return [(ALL_LINEAR,), attention, few]


def matching(linears: Mapping[str, tuple[int, int]], wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of the modules in `linears` that `wanted` means: all-linear; else full names or
    their ends; a single one with signs of a regular expression is matched in full.

    The rules are PEFT's (`lora.targets`). Raises ConfigError for one that means no module.
    """
    one = wanted[0] if len(wanted) == 1 else ""
    as_it_is = one == ALL_LINEAR or re.search(r"[\\*+?\[\](){}|^$]", one)
    config = LoraConfig(target_modules=one if as_it_is else tuple(wanted))
    return tuple(targets(config, dict.fromkeys(linears, True), ()))


def adapter_size(linears: Mapping[str, tuple[int, int]], names: Sequence[str], rank: int) -> int:
    """Σ rank·(in + out) over the adapted modules: the numbers in A (rank, in) and B (out, rank).

    Source: Hu et al. 2021, arXiv:2106.09685, §4.1.
    """
    return sum(rank * sum(linears[name]) for name in names)


def module_names(targets: Iterable[str]) -> tuple[str, ...]:
    """The last parts of the names of modules, each once, in their order."""
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in targets))
