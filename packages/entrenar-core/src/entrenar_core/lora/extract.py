"""An adapter that makes one model of another, from both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.lora.base import HEADS, TABLES, Base
from entrenar_core.lora.changes import SHOWN
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.factorise import low_rank
from entrenar_core.lora.peft_config import PeftConfig
from entrenar_core.lora.stored import as_float32
from entrenar_core.lora.update import Update
from entrenar_core.lora.write import AdapterContent, content_of

OTHER_TABLES = ("wpe", "position_embeddings", "token_type_embeddings")
"""Tables of vectors besides that of tokens."""


@dataclass(frozen=True)
class Extracted:
    """What became of one tensor that differs: an update of `rank`, or None and it is kept whole.

    difference: ‖T − W‖/‖W‖; error: ‖ΔW − (T − W)‖/‖T − W‖.
    """

    tensor: str
    rank: int | None
    difference: float
    error: float


def extract(
    base_path: Path,
    tuned_path: Path,
    *,
    rank: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[AdapterContent, list[Extracted]]:
    """The adapter of `rank` that is nearest to what the model at `tuned_path` has more than the one
    at `base_path`, tensor by tensor.

    Matrices of projections become low-rank updates, each the nearest one of its rank. What no such
    update is for is kept whole: norms, biases, and the output's projection and tables of tokens.
    Tensors that do not differ are left out.

    Raises ConfigError for models of other tensors or shapes, naming them, and where nothing
    differs; UnsupportedError for what an adapter cannot keep.
    """
    if rank < 1:
        raise ConfigError(f"a rank of {rank}", hint="give at least 1")
    progress = progress or NullProgress()
    updates: dict[str, Update] = {}
    whole: dict[str, np.ndarray] = {}
    found = []
    with Base(base_path) as base, Base(tuned_path) as tuned:
        names = _same_tensors(base, tuned)
        progress.start("extract", len(names))
        for name in names:
            old, new = base.weights.read(name), tuned.weights.read(name)
            if not np.array_equal(old, new):
                found.append(_one(base, name, old, new, (updates, whole), rank, seed))
            base.weights.release(name)
            tuned.weights.release(name)
            progress.advance()
        progress.finish()
        if not found:
            raise ConfigError(
                f"{tuned_path}: has the numbers of {base_path}", hint="there is nothing to extract"
            )
        settings = _settings(base, updates, whole, rank)
    return content_of(settings, updates, whole), found


def _one(
    base: Base,
    name: str,
    old: np.ndarray,
    new: np.ndarray,
    into: tuple[dict[str, Update], dict[str, np.ndarray]],
    rank: int,
    seed: int,
) -> Extracted:
    updates, whole = into
    wide = as_float32(old)
    change = as_float32(new) - wide
    size = float(np.linalg.norm(wide))
    difference = float(np.linalg.norm(change)) / size if size else float("inf")
    module, _, last = name.rpartition(".")
    if not _is_projection(name, old):
        whole[name] = np.array(new)
        return Extracted(name, None, difference, 0.0)
    assert last == "weight"
    transposed = base.is_transposed(module, stated=False)
    matrix = np.ascontiguousarray(change.T) if transposed else change
    update, error = low_rank(matrix, rank, seed=seed)
    updates[module] = Update(update.a, update.b, 1.0, transposed=transposed)
    return Extracted(name, update.rank, difference, error)


def _is_projection(name: str, array: np.ndarray) -> bool:
    module, _, last = name.rpartition(".")
    end = module.rpartition(".")[2]
    return array.ndim == 2 and last == "weight" and end not in (*TABLES, *HEADS, *OTHER_TABLES)


def _same_tensors(base: Base, tuned: Base) -> list[str]:
    ours, its = base.weights.names(), tuned.weights.names()
    problems = [f"{escape_controls(n)}: only in {tuned.path}" for n in its if n not in set(ours)]
    problems += [f"{escape_controls(n)}: only in {base.path}" for n in ours if n not in set(its)]
    for name in set(ours) & set(its):
        one, other = (tuple(model.weights.info(name).shape) for model in (base, tuned))
        if one != other:
            problems.append(f"{escape_controls(name)}: {list(one)} and {list(other)}")
    if problems:
        problems.sort()
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ConfigError(
            f"{base.path} and {tuned.path} differ in {len(problems)} tensors",
            details=[*problems[:SHOWN], *more],
            hint="both have to be of one architecture and size",
        )
    return ours


def _settings(
    base: Base, updates: Mapping[str, Update], whole: Mapping[str, np.ndarray], rank: int
) -> PeftConfig:
    biases = [name for name in whole if name.endswith(".bias")]
    of_updated = all(name.removesuffix(".bias") in updates for name in biases)
    others = [name for name in whole if name not in biases or _has_weight(name, whole)]
    lora = LoraConfig(
        rank=rank,
        alpha=rank,
        target_modules=_short(updates, base.weights.names()),
        bias="none" if not biases else "lora_only" if of_updated else "all",
        modules_to_save=_short(_owners(others), base.weights.names()),
    )
    raw: Mapping[str, Any] = base.raw or {}
    named = raw.get("architectures")
    causal = isinstance(named, list) and any(
        "CausalLM" in str(n) or "LMHead" in str(n) for n in named
    )
    transposed = any(update.transposed for update in updates.values())
    return PeftConfig(lora, str(base.path), "CAUSAL_LM" if causal else None, transposed)


def _has_weight(bias: str, whole: Mapping[str, np.ndarray]) -> bool:
    """Whether a bias is of a module that is kept whole anyway."""
    return f"{bias.removesuffix('.bias')}.weight" in whole


def _owners(parameters: Iterable[str]) -> list[str]:
    found = sorted({name.rpartition(".")[0] for name in parameters})
    if "" in found:
        raise UnsupportedError(
            "a tensor that differs is of no module", hint="such models are not supported"
        )
    return found


def _short(chosen: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """Ends of names that mean just the `chosen` modules of a model with parameters `names`, and the
    whole names of those that have no such end."""
    wanted = set(chosen)
    by_end: dict[str, set[str]] = {}
    for module in {name.rpartition(".")[0] for name in names}:
        by_end.setdefault(module.rpartition(".")[2], set()).add(module)
    found = set()
    for module in wanted:
        end = module.rpartition(".")[2]
        found.add(end if by_end.get(end, set()) <= wanted else module)
    return tuple(sorted(found))
