"""What an adapter is: ranks, scales, which modules it changes and how it starts.

Sources: Hu et al. 2021, arXiv:2106.09685 (LoRA); Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA);
Liu et al. 2024, arXiv:2402.09353 (DoRA).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import nearest

INITS = ("default", "gaussian", "pissa", "olora", "loftq")
"""How A and B may start; the last three take part of the weight over, so that the base changes."""

BIASES = ("none", "lora_only", "all")
"""Which biases of the model are trained besides."""

ALL_LINEAR = "all-linear"
"""Stands for every projection but the one that makes the output."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The settings of one adapter, by PEFT's meaning.

    rank: r; alpha: B·A is multiplied by alpha/r, with `use_rslora` by alpha/√r. target_modules:
    names of modules or their last parts, a regular expression for the whole name (a string), or
    "all-linear". rank_pattern, alpha_pattern: other values for the modules whose name a regular
    expression matches, whole or behind a dot. dropout: of the input of A, while training.
    modules_to_save: modules that are trained whole. bias: which biases are trained ("none",
    "lora_only", "all"). lora_bias: B has a bias. use_dora: directions and lengths of the weight's
    rows are trained apart. layers_to_transform: only the blocks of these numbers.

    init: "default" (A uniform, B zero), "gaussian" (A normal with deviation 1/r, B zero), "pissa"
    (the largest singular vectors), "olora" (an orthonormal B) or "loftq" (what the weight lost in
    `loftq_format`, found in `loftq_iterations` turns).

    Raises ConfigError for values that make no sense.
    """

    rank: int = 8
    alpha: float = 8.0
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    exclude_modules: str | tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    bias: str = "none"
    modules_to_save: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    init: str = "default"
    loftq_format: str = "nf4"
    loftq_iterations: int = 1

    def __post_init__(self) -> None:
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            value = getattr(self, name)
            if isinstance(value, list | set | frozenset):
                object.__setattr__(self, name, tuple(value))
        self._check_numbers()
        self._check_choice("bias", BIASES)
        self._check_choice("init", INITS)
        for pattern in (*self.rank_pattern, *self.alpha_pattern, *self._expressions()):
            try:
                re.compile(pattern)
            except re.error as problem:
                _refuse(f"{pattern!r} is no regular expression: {problem}", "correct it")

    def _check_numbers(self) -> None:
        for key, rank in {"rank": self.rank, **self.rank_pattern}.items():
            if type(rank) is not int or rank < 1:
                _refuse(f"the rank of {key} is {rank!r}", "a rank is a whole number from 1 on")
        for key, alpha in {"alpha": self.alpha, **self.alpha_pattern}.items():
            if type(alpha) not in (int, float) or not math.isfinite(alpha) or alpha == 0:
                _refuse(f"the alpha of {key} is {alpha!r}", "alpha is a finite number, and not 0")
        if not 0 <= self.dropout < 1:
            _refuse(f"dropout of {self.dropout!r}", "give a probability of at least 0, below 1")
        if self.use_dora and self.lora_bias:
            _refuse(
                "lora_bias with use_dora", "a bias of B has no length to scale: use one of them"
            )
        if self.loftq_iterations < 1:
            _refuse(f"loftq_iterations is {self.loftq_iterations}", "give at least 1")

    def _check_choice(self, key: str, known: tuple[str, ...]) -> None:
        value = getattr(self, key)
        if value not in known:
            close = nearest(str(value), known)
            hint = f"did you mean {close}?" if close else f"it is one of {', '.join(known)}"
            _refuse(f"{key} is {value!r}", hint)

    def _expressions(self) -> list[str]:
        found = (self.target_modules, self.exclude_modules)
        return [value for value in found if isinstance(value, str) and value != ALL_LINEAR]

    def rank_of(self, module: str) -> int:
        """The rank of the module of that name."""
        return matching(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str, rank: int | None = None) -> float:
        """What B·A of the module of that name is multiplied by; `rank` if it is not as here."""
        rank = self.rank_of(module) if rank is None else rank
        alpha = matching(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def matching(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first expression that `module` is, or ends with behind a dot."""
    for expression, value in pattern.items():
        if re.match(rf"(.*\.)?({expression})$", module):
            return value
    return default


def _refuse(problem: str, hint: str) -> None:
    raise ConfigError(f"LoRA: {problem}", hint=hint)
