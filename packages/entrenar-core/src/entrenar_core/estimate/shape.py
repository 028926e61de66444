"""The shape of a model: its matrices by name, and the sizes that its activations follow from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from entrenar_core.lora.places import adaptable, outputs
from entrenar_core.models.architectures import model_class
from entrenar_core.nn import Embedding, Projection, shapes_only


@dataclass(frozen=True)
class Blocks:
    """The sizes of the blocks; `queries` and `keys` are widths of all heads together.

    inner: the width between the projections of the feed-forward part; gated: it has a gate;
    activation: its name in the config; norms: rms or layer; head_norms: queries and keys are
    normalised; dropouts: how often the residual is dropped out in each block.
    """

    count: int
    hidden: int
    heads: int
    queries: int
    keys: int
    inner: int
    gated: bool
    activation: str
    norms: str
    head_norms: bool
    dropouts: int


@dataclass(frozen=True)
class ModelShape:
    """What planning has to know of a model; nothing of its size is allocated.

    linears: (out, in) of every projection but the head, by the module's name; head: the name and
    (out, in) of the projection to the vocabulary or the labels, None where there is none; tables:
    (rows, width) of every embedding; parameters: how many numbers there are, tied ones once.
    """

    name: str
    origin: str
    model_type: str
    blocks: Blocks
    linears: Mapping[str, tuple[int, int]]
    head: tuple[str, tuple[int, int]] | None
    head_is_tied: bool
    tables: Mapping[str, tuple[int, int]]
    parameters: int
    vocabulary: int
    positions: int
    predicts_tokens: bool
    sizes: tuple[int, ...]
    """The number of elements of every parameter, tied ones once."""
    raw: Mapping[str, Any]
    """The keys of its config."""

    @property
    def is_encoder(self) -> bool:
        """Whether every position attends to every other."""
        return self.model_type in ("bert", "roberta", "distilbert")

    @property
    def generates(self) -> bool:
        """Whether the model continues text, and so keeps keys and values."""
        return self.predicts_tokens and not self.is_encoder

    @cached_property
    def in_linears(self) -> int:
        """The numbers in the matrices that few-bit formats are for: all but the head's."""
        return sum(rows * columns for rows, columns in self.linears.values())

    @cached_property
    def largest_linear(self) -> int:
        """The numbers in the largest of them."""
        return max((rows * columns for rows, columns in self.linears.values()), default=0)

    @cached_property
    def first_block(self) -> dict[str, tuple[int, int]]:
        """The projections of the first block, which all others are like."""
        return {n: s for n, s in self.linears.items() if ".0." in n}


def model_shape(
    raw: Mapping[str, Any], *, name: str, origin: str, head: str | None = None
) -> ModelShape:
    """The shape of the model with the keys `raw` of a Hugging Face config.

    Raises what reading the config raises: UnsupportedError for an architecture that is not known,
    ConfigError for keys that make no sense.
    """
    kind = model_class(raw, head)
    config = kind.Config.from_hf(raw)
    with shapes_only():
        model = kind(config)
    found = adaptable(model)
    linears = {n: _out_in(m) for n, m in found.items() if isinstance(m, Projection)}
    tables = {n: m.weight for n, m in found.items() if isinstance(m, Embedding)}
    weight = getattr(model, "output_weight", None)
    heads = {n: linears.pop(n) for n in list(linears) if n in outputs(model, found)}
    sizes = tuple(math.prod(p.shape) for p in model.parameters())
    return ModelShape(
        name=name,
        origin=origin,
        model_type=config.model_type,
        blocks=_blocks(config),
        head=list(heads.items())[-1] if heads else None,
        linears=linears,
        head_is_tied=any(table is weight for table in tables.values()),
        tables={n: (table.shape[0], table.shape[1]) for n, table in tables.items()},
        parameters=sum(sizes),
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        predicts_tokens=weight is not None,
        sizes=sizes,
        raw=raw,
    )


def _out_in(module: Projection) -> tuple[int, int]:
    rows, columns = module.weight.shape
    return (rows, columns) if module.output_axis == 0 else (columns, rows)


_ACTIVATIONS = ("hidden_act", "activation_function", "activation")


def _blocks(config: Any) -> Blocks:
    """The sizes that all configs have under the same names, and what differs between families."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", config.hidden_size // heads)
    gated = hasattr(config, "rms_norm_eps")
    names = [getattr(config, key) for key in _ACTIVATIONS if hasattr(config, key)]
    return Blocks(
        count=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        queries=heads * width,
        keys=getattr(config, "num_key_value_heads", heads) * width,
        inner=config.intermediate_size,
        gated=gated,
        activation="silu" if gated else names[0],
        norms="rms" if gated else "layer",
        head_norms=getattr(config, "head_norm", False),
        dropouts=0 if gated else 2,
    )
