"""Which modules adapters are put on, by what users write for them."""

import re
from collections.abc import Mapping, Sequence

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls, nearest

ALL_LINEAR = "all-linear"

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

    The rules are PEFT's. Raises ConfigError for one that means no module.
    """
    if tuple(wanted) == (ALL_LINEAR,):
        return tuple(linears)
    if len(wanted) == 1 and re.search(r"[\\*+?\[\](){}|^$]", wanted[0]):
        return _by_pattern(linears, wanted[0])
    for each in wanted:
        if not any(_ends_with(name, each) for name in linears):
            raise _nothing(linears, each)
    return tuple(n for n in linears if any(_ends_with(n, each) for each in wanted))


def _by_pattern(linears: Mapping[str, tuple[int, int]], pattern: str) -> tuple[str, ...]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"target modules {escape_controls(pattern)!r}: not a regular expression: {error}",
            hint="give names such as q_proj,v_proj, a regular expression, or all-linear",
        ) from error
    found = tuple(name for name in linears if compiled.fullmatch(name))
    if not found:
        raise _nothing(linears, pattern)
    return found


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _nothing(linears: Mapping[str, tuple[int, int]], wanted: str) -> ConfigError:
    ends = sorted({name.rpartition(".")[2] for name in linears})
    like = nearest(wanted, ends)
    guess = f"did you mean {like}? " if like else ""
    return ConfigError(
        f"target modules: no linear layer is called {escape_controls(wanted)}",
        hint=f"{guess}there are {', '.join(ends)}; or all-linear",
    )


def adapter_size(linears: Mapping[str, tuple[int, int]], targets: Sequence[str], rank: int) -> int:
    """Σ rank·(in + out) over the adapted modules: the numbers in A (rank, in) and B (out, rank).

    Source: Hu et al. 2021, arXiv:2106.09685, §4.1.
    """
    return sum(rank * sum(linears[name]) for name in targets)
