"""What the result of a command means for the session, and what is said of it below the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from entrenar_shell.own_models import name_for
from entrenar_shell.quoting import join
from entrenar_shell.session import LoadedModel, Session

if TYPE_CHECKING:
    from entrenar_inspect.fetch import Fetched
    from entrenar_lora.plan import Plan

__all__ = ["advice", "fetched"]

_FEW_BITS = ("nf4", "int8", "q8_0")
"""Bases of a plan that are held in few bits."""


def fetched(found: Fetched, session: Session) -> str:
    """Load a model that was downloaded, under the last part of its name."""
    name = name_for(found.model)
    session.models.pop(name, None)
    session.models[name] = LoadedModel(name, found.folder)
    return f"Loaded as {name}."


def advice(found: Plan, _session: Session) -> str:
    """A plan as commands of the shell."""
    if not found.fits:
        return ""
    lines = [join(["set", key, value]) for key, value in _settings(found)]
    last = "distill" if _few_bits(found) else "finetune"
    return "\n".join(
        ["", "As commands:", *(f"  {line}" for line in (*lines, f"{last} --data TEXT"))]
    )


def _few_bits(found: Plan) -> bool:
    return found.rank is not None and found.base in _FEW_BITS


def _settings(found: Plan) -> Iterator[tuple[str, str]]:
    """The keys of a configuration that a plan decides: of a training, or, where a base in few bits
    is adapted, which a student is, of a distillation."""
    few = _few_bits(found)
    lora = "student.lora" if few else "lora"
    if few:
        yield "student.quantize", found.base
    if found.rank is not None:
        yield f"{lora}.rank", str(found.rank)
        yield f"{lora}.alpha", f"{found.alpha:g}"
        yield f"{lora}.target_modules", _targets(found.target_modules)
    yield ("training.batch_size" if few else "data.batch_size"), str(found.micro_batch)
    yield "training.gradient_accumulation", str(found.accumulation)
    yield ("dataset.max_length" if few else "data.max_length"), str(found.seq_len)
    yield "training.checkpointing", "true" if found.checkpointing else "false"


def _targets(names: tuple[str, ...]) -> str:
    return names[0] if names == ("all-linear",) else f"[{','.join(names)}]"
