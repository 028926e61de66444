"""What adapters make of a base: which tensors change, and by what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.lora.base import HEADS, Base
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.update import Update, row_pieces

SHOWN = 10
"""At most so many tensors are listed in an error."""

FLOATS = ("F32", "F16", "BF16", "F64")
TAKES_OVER = ("pissa", "olora")
"""How an adapter may start that takes a part of the base's weights over."""


@dataclass(frozen=True)
class Weighted:
    """An adapter, and what its update is multiplied by."""

    adapter: StoredAdapter
    factor: float = 1.0


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor, called `tensor` in the output, of `shape`.

    It begins with the base's tensor `source`, or with the tensor of an adapter that takes its
    place, `whole`: the adapter and the parameter's name there. Added are the updates of `modules`,
    or, of a bias, theirs.
    """

    tensor: str
    shape: tuple[int, ...]
    source: str | None
    whole: tuple[StoredAdapter, str] | None = None
    modules: tuple[tuple[Weighted, str], ...] = ()
    is_bias: bool = False
    transposed: bool = False

    def updates(self) -> list[tuple[Weighted, Update]]:
        """The updates to the weight, each before it is multiplied by its adapter's factor."""
        found = []
        for weighted, module in () if self.is_bias else self.modules:
            update = weighted.adapter.update(module)
            transposed = update.embedding or self.transposed
            found.append((weighted, replace(update, transposed=transposed)))
        return found

    def bias(self) -> np.ndarray:
        """The sum of what the updates add to a bias, float32."""
        found = [w.adapter.update(module).scaled(w.factor).bias for w, module in self.modules]
        return np.sum([bias for bias in found if bias is not None], axis=0)

    def words(self) -> list[str]:
        """What happens to it, for people."""
        found = [] if self.whole is None else ["replaced"]
        for weighted, module in self.modules:
            rank = weighted.adapter.modules[module].rank
            scale = weighted.adapter.config.scale_of(module, rank) * weighted.factor
            kind = "DoRA" if weighted.adapter.config.use_dora else ""
            text = f"{kind} rank {rank}, scale {scale:.4g}".strip()
            found.append(f"bias, scale {scale:.4g}" if self.is_bias else text)
        if self.source is not None and self.source != self.tensor:
            found.insert(0, f"copy of {self.source}")
        return found


@dataclass(frozen=True)
class Changes:
    """All of them, by the tensor's name; `added` are those that the base has not. `untied` says
    that output and table of tokens are two matrices from now on. `notes` are for the user."""

    by_tensor: Mapping[str, Change]
    added: tuple[str, ...] = ()
    untied: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Plan:
    base: Base
    adapters: Sequence[Weighted]
    found: dict[str, Change] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def changes(base: Base, adapters: Sequence[Weighted]) -> Changes:
    """What `adapters` make of `base`.

    Raises ConfigError for adapters of another model, naming what does not match, and for those that
    cannot be added together; UnsupportedError for what no sum of weights can express.
    """
    for weighted in adapters:
        _check_start(weighted.adapter)
        if weighted.adapter.config.use_dora:
            _check_factor(weighted, "is DoRA, which scales whole rows")
    plan = _Plan(base, adapters)
    head = _tied_head(plan)
    for weighted in adapters:
        for parameter in weighted.adapter.whole:
            _replace(plan, weighted, parameter)
        for module in weighted.adapter.modules:
            _add(plan, weighted, module)
    if plan.problems:
        raise _another_model(plan)
    untied = False
    if head is not None:
        untied = _untie(plan, head)
    return Changes(plan.found, tuple(plan.added), untied, tuple(plan.notes))


def _check_start(adapter: StoredAdapter) -> None:
    if adapter.config.init in TAKES_OVER:
        raise UnsupportedError(
            f"{adapter.path}: began as {adapter.config.init}, which took a part of its base's "
            "weights over",
            hint="save it in PEFT with path_initial_model_for_weight_conversion; or set its "
            "init_lora_weights to true, where the base is the model that lost this part",
        )


def _check_factor(weighted: Weighted, what: str) -> None:
    if weighted.factor != 1:
        raise UnsupportedError(
            f"{weighted.adapter.path}: {what}, and cannot be taken {weighted.factor:g} times",
            hint="give it a scale of 1",
        )


def _tied_head(plan: _Plan) -> str | None:
    """The name that the output's projection gets where it is the table of tokens and an adapter
    changes one of the two; None where nothing has to be separated."""
    base = plan.base
    table, head = base.table(), base.head()
    named = [name for w in plan.adapters for name in (*w.adapter.modules, *_owners(w.adapter))]
    if head is None:
        head = next((f"{n}.weight" for n in named if n.rpartition(".")[2] in HEADS), None)
    touched = [n for n in named if f"{n}.weight" == head or base.find(f"{n}.weight") == table]
    if table is None or head is None or not touched:
        return None
    return head if base.find(head) is None or base.is_tied else None


def _owners(adapter: StoredAdapter) -> list[str]:
    return [name.removesuffix(".weight") for name in adapter.whole if name.endswith(".weight")]


def _source(plan: _Plan, parameter: str) -> str | None:
    """The base's tensor with the numbers of a parameter: of a head that is tied, the table's."""
    found = plan.base.find(parameter)
    if found is None and parameter.removesuffix(".weight").rpartition(".")[2] in HEADS:
        return plan.base.table()
    return found


def _begin(plan: _Plan, parameter: str) -> Change | None:
    """The change of a parameter so far, None where the base has none."""
    source = _source(plan, parameter)
    if source is None:
        return None
    tensor = plan.base.find(parameter) or parameter
    shape = tuple(plan.base.weights.info(source).shape)
    return plan.found.get(tensor) or Change(tensor, shape, source)


def _replace(plan: _Plan, weighted: Weighted, parameter: str) -> None:
    adapter = weighted.adapter
    shape = tuple(adapter.info(adapter.whole[parameter]).shape)
    begun = _begin(plan, parameter)
    if begun is not None and _is_a_copy(plan.base, adapter, parameter, begun):
        return
    _check_factor(weighted, f"replaces {escape_controls(parameter)} by a whole tensor")
    if begun is None:
        plan.added.append(parameter)
        plan.notes.append(f"{escape_controls(parameter)} is not in the base, and is added")
        begun = Change(parameter, shape, None)
    if begun.shape != shape:
        plan.problems.append(
            f"{escape_controls(parameter)}: {list(shape)}, the base's is {list(begun.shape)}"
        )
    elif begun.whole is not None:
        raise UnsupportedError(
            f"{escape_controls(parameter)} is replaced by {begun.whole[0].path} and by "
            f"{adapter.path}",
            hint="merge one of them alone",
        )
    plan.found[begun.tensor] = replace(begun, whole=(adapter, parameter))


def _is_a_copy(base: Base, adapter: StoredAdapter, parameter: str, begun: Change) -> bool:
    """Whether it is the weight of an updated module as the base has it, which PEFT saves too when
    the module is a table of tokens or the output's projection."""
    if parameter.removesuffix(".weight") not in adapter.modules or begun.source is None:
        return False
    if begun.shape != tuple(adapter.info(adapter.whole[parameter]).shape):
        return False
    ours, its = base.weights.read(begun.source), adapter.whole_tensor(parameter)
    same = all(np.array_equal(_wide(ours[part]), _wide(its[part])) for part in row_pieces(ours))
    base.weights.release(begun.source)
    return same


def _wide(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32)


def _add(plan: _Plan, weighted: Weighted, module: str) -> None:
    about, shown = weighted.adapter.modules[module], escape_controls(module)
    outputs, inputs = about.b_shape[0], about.a_shape[1]
    begun = _begin(plan, f"{module}.weight")
    if begun is None:
        plan.problems.append(f"{shown}: not in the base")
        return
    transposed = about.embedding or plan.base.is_transposed(
        module, weighted.adapter.settings.fan_in_fan_out
    )
    wanted = (inputs, outputs) if transposed else (outputs, inputs)
    if begun.shape != wanted:
        plan.problems.append(
            f"{shown}: for a weight {list(wanted)}, the base's is {list(begun.shape)}"
        )
        return
    _check_type(plan.base, begun)
    _check_dora(begun, weighted)
    modules = (*begun.modules, (weighted, module))
    plan.found[begun.tensor] = replace(begun, modules=modules, transposed=transposed)
    if "bias" in about.parts:
        _add_bias(plan, weighted, module)


def _add_bias(plan: _Plan, weighted: Weighted, module: str) -> None:
    begun = _begin(plan, f"{module}.bias")
    if begun is None:
        plan.problems.append(f"{escape_controls(module)}: its B has a bias, the base has none")
        return
    modules = (*begun.modules, (weighted, module))
    plan.found[begun.tensor] = replace(begun, modules=modules, is_bias=True)


def _check_type(base: Base, change: Change) -> None:
    if base.is_quantized or change.whole is not None or change.source is None:
        return
    dtype = str(base.weights.info(change.source).dtype)
    if dtype not in FLOATS:
        raise UnsupportedError(
            f"{base.path}: {escape_controls(change.source)} is stored as {dtype}",
            hint="give the model that it was made from: adapters are added to floats",
        )


def _check_dora(change: Change, weighted: Weighted) -> None:
    both = [weighted, *(other for other, _ in change.modules)]
    if len(both) > 1 and any(other.adapter.config.use_dora for other in both):
        raise UnsupportedError(
            f"{escape_controls(change.tensor)} is changed by several adapters, of which one is "
            "DoRA: the result would depend on their order",
            hint="merge them one after the other, in the order that you mean",
        )


def _another_model(plan: _Plan) -> ConfigError:
    shown = plan.problems[:SHOWN]
    if len(plan.problems) > SHOWN:
        shown.append(f"and {len(plan.problems) - SHOWN} more")
    names = ", ".join(str(w.adapter.path) for w in plan.adapters)
    made_for = next((w.adapter.settings.base_model for w in plan.adapters), None)
    return ConfigError(
        f"{names}: does not fit {plan.base.path} in {len(plan.problems)} places",
        details=shown,
        hint="it was made for "
        + (escape_controls(made_for[:80]) if made_for else "another model: give that as the base"),
    )


def _untie(plan: _Plan, head: str) -> bool:
    """Give output and table of tokens a tensor each; whether the config has to say so."""
    base, table = plan.base, plan.base.table()
    if base.find(head) is None:
        assert table is not None
        shape = tuple(base.weights.info(table).shape)
        plan.found.setdefault(head, Change(head, shape, table))
        plan.added.append(head)
    plan.notes.append(
        f"the output's projection was the table of tokens, {table}; what is added to one is not "
        f"added to the other, so {head} is a matrix of its own from now on"
        + ("" if base.raw else ": the config has to say tie_word_embeddings false")
    )
    return True


def touched(found: Changes) -> Iterator[Change]:
    """The changes in the order of the tensors' names."""
    return (found.by_tensor[name] for name in sorted(found.by_tensor))
