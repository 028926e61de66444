"""Finding the class of a model by what its config says."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls

ARCHITECTURES = {
    "bert": ".bert",
    "distilbert": ".distilbert",
    "gpt2": ".gpt2",
    "llama": ".llama",
    "mistral": ".mistral",
    "qwen2": ".qwen2",
    "qwen3": ".qwen3",
    "roberta": ".roberta",
}
"""`model_type` of a config → module of this package. Its `HEADS` are classes by the name of what
they are for, of which the first is the one that a folder without `architectures` gets."""


def model_class(raw: Mapping[str, Any], head: str | None) -> Any:
    """The class of the model whose config has the keys `raw`, for the purpose `head`, or for what
    the config says. UnsupportedError where there is none.
    """
    heads = heads_of(raw)
    if head is not None:
        if head not in heads:
            raise UnsupportedError(
                f"{raw['model_type']} has no head {escape_controls(head)}",
                hint=f"it has {', '.join(heads)}",
            )
        return heads[head]
    return heads[named_head(raw) or next(iter(heads))]


def heads_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The classes of the architecture whose config has the keys `raw`, by what they are for.
    UnsupportedError for an architecture that is not known."""
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        shown = escape_controls(str(kind)) if kind is not None else "missing"
        raise UnsupportedError(
            f"config.json: model_type {shown} is not an architecture this version knows",
            hint=f"known: {', '.join(sorted(ARCHITECTURES))}",
        )
    return import_module(ARCHITECTURES[kind], __package__).HEADS


def named_head(raw: Mapping[str, Any]) -> str | None:
    """What `architectures` says that a model is for, None where it says nothing. UnsupportedError
    for a class that is not known."""
    heads, named = heads_of(raw), raw.get("architectures")
    if not named:
        return None
    for head, each in heads.items():
        if isinstance(named, list) and each.hf_class in named:
            return head
    known = ", ".join(each.hf_class for each in heads.values())
    raise UnsupportedError(
        f"config.json: architectures {escape_controls(str(named))} is none of "
        f"{raw['model_type']}'s: {known}",
        hint=f"choose one of them by head: {', '.join(heads)}",
    )
