"""Where in a model a tensor is, by its name: before the layers, in one of them, or after them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

_LAYER = re.compile(r"(?P<before>(?:^|.*?\.)(?:layers|h|layer|blocks|block)\.)(?P<number>\d+)\.")
_BEFORE = re.compile(
    r"(?:^|\.)(?:embed(?!_out\b)\w*|embd|w[tp]e|\w*_embeddings?|embeddings?)(?:\.|$)"
)
_BODY = re.compile(r"^(?:(?:model|transformer|bert|roberta|distilbert)\.)+")
_COMPUTED = re.compile(
    r"(?:^|\.)(?:rotary_emb\.inv_freq|attn\.(?:masked_)?bias|position_ids|token_type_ids)$"
)
_OPTIONAL = re.compile(
    r"(?:^|\.)(?:lm_head(?:\.decoder)?\.weight|cls\.predictions\.decoder\.weight"
    r"|vocab_projector\.weight|self_attn\.[qkvo]_proj\.bias|self_attn\.[qk]_norm\.weight"
    r"|mlp\.(?:gate|up|down)_proj\.bias|pooler\.dense\.(?:weight|bias)|score\.bias)$"
)

Part = Literal["before", "layers", "after"]


@dataclass(frozen=True)
class Place:
    """A tensor's part of the model, its layer if it is in one, and the rest of its name, which
    neither the layer's number nor the prefix of the model's body is in."""

    part: Part
    layer: int | None
    rest: str


def place_of(name: str) -> Place:
    """Where the tensor called `name` is.

    >>> place_of("model.layers.3.mlp.up_proj.weight")
    Place(part='layers', layer=3, rest='layers.*.mlp.up_proj.weight')
    """
    found = _LAYER.match(name)
    if found:
        whole = f"{found['before']}*{name[found.end('number') :]}"
        return Place("layers", int(found["number"]), _BODY.sub("", whole))
    return Place("before" if _BEFORE.search(name) else "after", None, _BODY.sub("", name))


def in_layer(name: str, layer: int | None) -> str:
    """`name` with another number of its layer; `name` itself where it is in none."""
    found = _LAYER.match(name)
    if found is None or layer is None:
        return name
    return f"{found['before']}{layer}{name[found.end('number') :]}"


def is_computed(name: str) -> bool:
    """Whether a model computes the tensor of that name, so that what is stored is not used."""
    return _COMPUTED.search(name) is not None


def is_optional(name: str) -> bool:
    """Whether models of one architecture may differ in having the tensor of that name: outputs
    that can be tied, biases, norms of queries and keys, and poolers.

    Source: the weights called optional in https://github.com/arcee-ai/mergekit,
    `mergekit/_data/architectures`.
    """
    return _OPTIONAL.search(name) is not None


def by_place(names: Iterable[str]) -> Mapping[Place, str]:
    """The tensors of a model that have to be merged, by their places, in their order."""
    found: dict[Place, str] = {}
    for name in names:
        if is_computed(name):
            continue
        place = place_of(name)
        if place in found:  # one with the body's prefix and one without: two tensors
            place = Place(place.part, place.layer, name)
        found[place] = name
    return found
