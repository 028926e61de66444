"""Which family a model is of: by what its config says, else by what its tensors are called.

A family is never guessed: where the tensors of several are the same, all of them are candidates.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from entrenar_inspect import families
from entrenar_inspect.artifact import APR, GGUF, Artifact
from entrenar_inspect.families import Family
from entrenar_inspect.layout import Layout, Rule
from entrenar_inspect.metadata import text, whole
from entrenar_inspect.names import WRAPPED, block_of, is_of_adapter
from entrenar_inspect.weights import Place, Weight, weights_of

MODEL, LORA, ADAPTED, TENSORS, SENTENCE = (
    "model", "LoRA adapter", "model with LoRA adapters", "tensors", "sentence-transformers model",
)  # fmt: skip
"""Kinds of artifacts."""

TENSOR_NAMES = "tensor names"
ADAPTER_CONFIG = "adapter_config.json"

_SHARED_GGUF = {"llama": "Mistral's", "bert": "RoBERTa's and DistilBERT's"}
"""What GGUF calls by another family's name as well."""
_SHOWN = 3


@dataclass(frozen=True)
class Recognition:
    """What an artifact is.

    family: as it is shown, None where unknown; model_type: what Hugging Face or GGUF calls it,
    where that is stated; candidates: the families that its tensors may be of, where there are
    several; origin: what told it; evidence: short true sentences; kind: of what it is; prefix: what
    comes before the names that are the family's own; contradiction: what the tensors say
    otherwise.
    """

    family: str | None
    model_type: str | None
    candidates: tuple[str, ...]
    origin: str
    evidence: tuple[str, ...]
    kind: str
    prefix: str
    contradiction: str | None = None


class Located(NamedTuple):
    """A layout that an artifact's tensors have, behind a prefix as a pattern and as it is."""

    layout: Layout
    pattern: str
    prefix: str


def locate(layout: Layout, places: Mapping[str, Place]) -> Iterator[Located]:
    """The prefixes behind which all of the layout's required tensors are, and none forbidden."""
    first = layout.required[0]
    for pattern, place in places.items():
        prefix = pattern.removesuffix(first)
        if not pattern.endswith(first) or (prefix and not prefix.endswith(".")):
            continue
        if all(prefix + name in places for name in layout.required) and not any(
            prefix + name in places for name in layout.forbidden
        ):
            own = first.count(".") + 1
            yield Located(layout, prefix, ".".join([*place.name.split(".")[:-own], ""]))


def located(family: Family, places: Mapping[str, Place]) -> Located | None:
    """How the tensors of a model that is known to be of the family are called."""
    every = (found for layout in family.layouts for found in locate(layout, places))
    return next(every, None)


def recognise(artifact: Artifact) -> Recognition:
    """What the artifact is, by its config, else by its tensors."""
    weights = weights_of(artifact)
    kind = _kind(artifact, weights.by_name)
    if kind == LORA:
        return _adapter(artifact, weights.by_name)
    places = weights.places
    by_tensors = dict(_matching(places))
    stated = _stated(artifact)
    if stated is None:
        return _by_tensors(artifact, kind, by_tensors, places)
    family, model_type, evidence = stated
    own = None if family is None else located(family, places)
    if family is None and by_tensors:
        evidence += (f"its tensors are called as those of {_either(by_tensors)}",)
    return Recognition(
        None if family is None else family.name,
        model_type,
        (),
        _origin(artifact),
        (*evidence, *_of_layout(own, places)),
        kind,
        "" if own is None else own.prefix,
        _contradiction(family, own, by_tensors),
    )


def _kind(artifact: Artifact, weights: Mapping[str, Weight]) -> str:
    if any(map(is_of_adapter, weights)):
        return ADAPTED if any(WRAPPED in name for name in weights) else LORA
    if not artifact.is_remote and artifact.beside("modules.json") is not None:
        return SENTENCE
    known = artifact.config or "general.architecture" in artifact.metadata
    return MODEL if known or any(block_of(name) for name in weights) else TENSORS


def _origin(artifact: Artifact) -> str:
    return {GGUF: "GGUF metadata", APR: "APR metadata"}.get(artifact.kind, "config.json")


def _stated(artifact: Artifact) -> tuple[Family | None, str | None, tuple[str, ...]] | None:
    """The family, its name in Hugging Face's or GGUF's words, and what says so."""
    if artifact.kind == GGUF:
        return _by_architecture(artifact)
    model_type = artifact.config.get("model_type")
    if isinstance(model_type, str) and model_type:
        return families.of_model_type(model_type), model_type, (f"model_type is {model_type!r}",)
    named = artifact.config.get("architectures")
    for name in named if isinstance(named, list) else ():
        family = families.of_class(name) if isinstance(name, str) else None
        if family is not None:
            return family, None, (f"architectures names {name!r}",)
    return None


def _by_architecture(artifact: Artifact) -> tuple[Family | None, str, tuple[str, ...]] | None:
    name = text(artifact.metadata, "general.architecture")
    if name is None:
        return None
    count = whole(artifact.metadata, f"{name}.expert_count")
    family = families.of_gguf(name, experts=bool(count))
    evidence = [f"general.architecture is {name!r}"]
    if count and name == "llama":
        evidence.append(f"llama.expert_count is {count}")
    elif name in _SHARED_GGUF:
        evidence.append(f"GGUF files call {_SHARED_GGUF[name]} models {name} too")
    return family, name, tuple(evidence)


def _matching(places: Mapping[str, Place]) -> Iterator[tuple[Family, Located]]:
    """The families whose tensors these are."""
    for family in families.FAMILIES:
        for layout in family.layouts:
            found = next((at for at in locate(layout, places) if _fits(at, places)), None)
            if found is not None:
                yield family, found
                break


def _fits(at: Located, places: Mapping[str, Place]) -> bool:
    ends = at.layout.prefixes
    named = not ends or any(f".{at.pattern}".endswith(f".{end}") and end for end in ends)
    if not named and not ("" in ends and not at.pattern):
        return False
    return all(_holds(rule, at, places) for rule in at.layout.rules)


def _holds(rule: Rule, at: Located, places: Mapping[str, Place]) -> bool:
    shape = places[at.pattern + rule.tensor].shape
    return shape is None or (len(shape) == 2 and rule.holds(shape))


def _of_layout(at: Located | None, places: Mapping[str, Place]) -> tuple[str, ...]:
    """Sentences on the tensors that tell a layout from others."""
    if at is None:
        return ()
    found = [_sized(places[at.pattern + name]) for name in at.layout.required[-_SHOWN:]]
    for rule in at.layout.rules:
        found.append(f"{_sized(places[at.pattern + rule.tensor])} ({rule.words})")
    return tuple(dict.fromkeys(found))


def _sized(place: Place) -> str:
    if place.shape is None:
        return place.name
    return f"{place.name} of {' × '.join(map(str, place.shape)) or 1} numbers"


def _by_tensors(
    artifact: Artifact, kind: str, found: Mapping[Family, Located], places: Mapping[str, Place]
) -> Recognition:
    names = tuple(family.name for family in found)
    first = next(iter(found.values()), None)
    model_type = artifact.config.get("model_type")
    return Recognition(
        names[0] if len(names) == 1 else None,
        model_type if isinstance(model_type, str) else None,
        names if len(names) > 1 else (),
        TENSOR_NAMES,
        _of_layout(first, places),
        kind,
        "" if first is None else first.prefix,
    )


def _contradiction(
    family: Family | None, own: Located | None, by_tensors: Mapping[Family, Located]
) -> str | None:
    if family is None or not by_tensors or family in by_tensors:
        return None
    # rules about sizes tell what is usual: not that a config is wrong
    if own is not None and any(at.layout.rules for at in by_tensors.values()):
        return None
    return f"the config says {family.name}, the tensors are those of {_either(by_tensors)}"


def _either(every: Iterable[Family]) -> str:
    *others, last = [family.name for family in every]
    return f"{', '.join(others)} or {last}" if others else last


def _adapter(artifact: Artifact, weights: Mapping[str, Weight]) -> Recognition:
    name = next(filter(is_of_adapter, weights))
    stated = artifact.beside(ADAPTER_CONFIG) is not None
    return Recognition(
        None, None, (), ADAPTER_CONFIG if stated else TENSOR_NAMES,
        (_sized(Place(name, weights[name].shape)),), LORA, _adapter_prefix(name),
    )  # fmt: skip


def _adapter_prefix(name: str) -> str:
    return "base_model.model." if name.startswith("base_model.model.") else ""
