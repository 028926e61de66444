"""How large a model is: by its config, and by the shapes of its tensors where that is silent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from entrenar_inspect import families
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.families import Family
from entrenar_inspect.gguf_layouts import GGUF_LAYOUTS
from entrenar_inspect.layout import Layout, Size
from entrenar_inspect.names import block_of
from entrenar_inspect.recognise import (
    LORA,
    Located,
    Recognition,
    locate,
    located,
)
from entrenar_inspect.stated import Stated, stated_by_config, stated_by_gguf
from entrenar_inspect.weights import Place, weights_of

CONFIG, FROM_TENSORS = "config", "tensors"


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of a model, each None where nothing says it.

    layers: blocks, of an encoder and a decoder together; layers_text: the same in words, such as
    "6 + 6"; context: positions of tokens; experts: of each block; origins: for each known
    one "config" or "tensors"; disagreements: where both speak and say different things; vision: of
    the part of a model that sees.
    """

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    key_value_heads: int | None = None
    head_size: int | None = None
    inner: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    experts: int | None = None
    layers_text: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    disagreements: tuple[str, ...] = ()
    vision: "Dimensions | None" = None


@dataclass(frozen=True)
class _Shapes:
    """What tensors say: sizes and where each was read, and the numbers of blocks by their stack."""

    sizes: Mapping[str, int]
    names: Mapping[str, str]
    blocks: tuple[tuple[str, frozenset[int]], ...]


def dimensions(artifact: Artifact, recognition: Recognition) -> Dimensions:
    """The dimensions of an artifact, from headers and metadata only."""
    if recognition.kind == LORA:
        return Dimensions()
    weights = weights_of(artifact)
    places, every = weights.places, weights.model
    every_family = [
        families.by_name(name)
        for name in ([recognition.family] if recognition.family else recognition.candidates)
    ]
    family = next(iter(every_family), None)
    at = _layout(artifact, family, places)
    is_part = artifact.model is None and not artifact.is_remote
    shapes = _shapes(at, places, every)
    if artifact.kind == GGUF:
        stated = stated_by_gguf(artifact.metadata)
    else:
        stated = stated_by_config(artifact.config, family)
    found = _joined(stated, _usable(shapes, every_family), is_part=is_part)
    vision = None if family is None else family.vision
    if vision is not None and at is not None and at.layout is vision:
        return found  # it sees, and does nothing else
    return replace(found, vision=_vision(artifact, vision, places, every))


def _layout(
    artifact: Artifact, family: Family | None, places: Mapping[str, Place]
) -> Located | None:
    if artifact.kind == GGUF:
        return next((at for layout in GGUF_LAYOUTS for at in locate(layout, places)), None)
    return None if family is None else located(family, places)


def _vision(
    artifact: Artifact, layout: Layout | None, places: Mapping[str, Place], names: Iterable[str]
) -> Dimensions | None:
    at = None if layout is None else next(locate(layout, places), None)
    config = artifact.config.get("vision_config")
    if at is None and not isinstance(config, dict):
        return None
    stated = stated_by_config(config if isinstance(config, dict) else {}, None)
    shapes = _Shapes({}, {}, ()) if at is None else _shapes(at, places, names)
    return _joined(stated, shapes, is_part=False)


def _shapes(at: Located | None, places: Mapping[str, Place], names: Iterable[str]) -> _Shapes:
    if at is None:
        return _Shapes({}, {}, _any_blocks(names))
    found: dict[str, tuple[int, str]] = {}
    for what, size in at.layout.sizes.items():
        place = places.get(at.pattern + size.tensor)
        if place is not None and place.shape is not None and len(place.shape) > size.axis:
            found[what] = (_read(size, place.shape), place.name)
    stacks = tuple(at.prefix + block.removesuffix(".{}") for block in at.layout.blocks)
    return _Shapes(
        {what: value for what, (value, _) in found.items()},
        {what: name for what, (_, name) in found.items()},
        _blocks(stacks, names),
    )


def _read(size: Size, shape: tuple[int, ...]) -> int:
    return shape[size.axis] // size.over


def _blocks(
    stacks: tuple[str, ...], names: Iterable[str]
) -> tuple[tuple[str, frozenset[int]], ...]:
    found: dict[str, set[int]] = {stack: set() for stack in stacks}
    for name in names:
        block = block_of(name)
        if block is not None and block[0] in found:
            found[block[0]].add(block[1])
    return tuple((stack, frozenset(numbers)) for stack, numbers in found.items() if numbers)


def _any_blocks(names: Iterable[str]) -> tuple[tuple[str, frozenset[int]], ...]:
    """The one stack of blocks that there is, or nothing where there are several."""
    found: dict[str, set[int]] = {}
    for name in names:
        block = block_of(name)
        if block is not None:
            found.setdefault(block[0], set()).add(block[1])
    return tuple((stack, frozenset(n)) for stack, n in found.items()) if len(found) == 1 else ()


def _usable(shapes: _Shapes, every_family: Iterable[Family | None]) -> _Shapes:
    """The same with the positions that tokens can have, where all families reserve as many."""
    reserved = {family.reserved for family in every_family if family is not None} or {0}
    sizes = dict(shapes.sizes)
    positions = sizes.pop("positions", None)
    if positions is not None and len(reserved) == 1:
        sizes["positions"] = positions - reserved.pop()
    return replace(shapes, sizes=sizes)


_BOTH = {
    "hidden": "hidden", "inner": "inner", "vocabulary": "vocabulary", "experts": "experts",
    "head_size": "head_size", "heads": "heads", "context": "positions",
}  # fmt: skip
"""A dimension → what says the same among the sizes of tensors."""


def _joined(stated: Stated, shapes: _Shapes, *, is_part: bool) -> Dimensions:
    values: dict[str, int] = dict(stated.values)
    origins = dict.fromkeys(values, CONFIG)
    problems: list[str] = []
    for what, size in _BOTH.items():
        seen = shapes.sizes.get(size)
        if seen is None:
            continue
        if what not in values:
            values[what], origins[what] = seen, FROM_TENSORS
        elif values[what] != seen:
            problems.append(
                f"{stated.keys[what]} is {values[what]}, {shapes.names[size]} has {seen}"
            )
    _derive(values, origins, shapes, stated)
    problems += _heads_problems(values, stated, shapes)
    layers = _layers(stated, shapes, problems, is_part=is_part)
    if layers is not None:
        values["layers"], origins["layers"] = sum(layers[0]), layers[1]
    text = " + ".join(map(str, layers[0])) if layers else None
    get = values.get
    return Dimensions(
        get("layers"), get("hidden"), get("heads"), get("key_value_heads"), get("head_size"),
        get("inner"), get("vocabulary"), get("context"), get("experts"), text, origins,
        tuple(problems),
    )  # fmt: skip


def _derive(
    values: dict[str, int], origins: dict[str, str], shapes: _Shapes, stated: Stated
) -> None:
    """What follows from other dimensions, where neither a config nor a tensor says it."""
    queries, keys = shapes.sizes.get("queries"), shapes.sizes.get("keys")

    def add(what: str, whole: int | None, part: str, origin: str) -> None:
        divisor = values.get(part)
        if what not in values and whole and divisor and whole % divisor == 0:
            values[what], origins[what] = whole // divisor, origin

    add("heads", queries, "head_size", FROM_TENSORS)
    add("head_size", queries, "heads", FROM_TENSORS)
    if "heads" in origins and origins["heads"] == CONFIG:
        add("head_size", values.get("hidden"), "heads", CONFIG)
    add("key_value_heads", keys, "head_size", FROM_TENSORS)
    if "key_value_heads" not in values and origins.get("heads") == CONFIG:
        values["key_value_heads"], origins["key_value_heads"] = values["heads"], CONFIG
    if "inner" not in values and stated.inner_factor and "hidden" in values:
        values["inner"] = stated.inner_factor * values["hidden"]
        origins["inner"] = origins["hidden"]


def _heads_problems(values: Mapping[str, int], stated: Stated, shapes: _Shapes) -> list[str]:
    """Where the rows of queries and keys are not heads × head size."""
    problems = []
    size = values.get("head_size")
    for what, rows in (("heads", "queries"), ("key_value_heads", "keys")):
        count, seen = values.get(what), shapes.sizes.get(rows)
        if what in stated.keys and count and size and seen and count * size != seen:
            problems.append(
                f"{stated.keys[what]} is {count}, of {size} each: {count * size}; "
                f"{shapes.names[rows]} has {seen}"
            )
    return problems


def _layers(
    stated: Stated, shapes: _Shapes, problems: list[str], *, is_part: bool
) -> tuple[tuple[int, ...], str] | None:
    """Blocks of each stack, and what says so."""
    seen = tuple(len(numbers) for _, numbers in shapes.blocks)
    if not stated.layers:
        return (seen, FROM_TENSORS) if seen else None
    if is_part or not seen:
        return stated.layers, CONFIG
    if len(stated.layers) != len(seen):
        # half of a model, such as the encoder alone
        stated_of = dict(zip(("encoder", "decoder"), stated.layers, strict=False))
        wanted = [n for half, n in stated_of.items() if any(half in s for s, _ in shapes.blocks)]
        if len(stated.layers) == 1 or len(wanted) != len(seen):
            return stated.layers, CONFIG
        return tuple(wanted), CONFIG
    for key, count, (_, numbers) in zip(
        stated.layer_keys, stated.layers, shapes.blocks, strict=True
    ):
        if numbers != frozenset(range(count)):
            problems.append(f"{key} is {count}, the tensors have {_in_words(numbers)}")
    return stated.layers, CONFIG


def _in_words(numbers: frozenset[int]) -> str:
    """Blocks by their numbers.

    >>> _in_words(frozenset({0, 1, 2})), _in_words(frozenset({0, 2}))
    ('blocks 0 to 2', '2 of the blocks 0 to 2')
    """
    low, high = min(numbers), max(numbers)
    if len(numbers) == high - low + 1:
        return f"blocks {low} to {high}" if high > low else f"block {low}"
    return f"{len(numbers)} of the blocks {low} to {high}"
