"""What an adapter is, from its headers and its settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_core.io.strict_json import parse_json
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.metadata import scalar
from entrenar_inspect.recognise import ADAPTED, ADAPTER_CONFIG, LORA, Recognition
from entrenar_inspect.weights import Weight, weights_of

_A = re.compile(r"^(?P<module>.*?)(?:\.weight)?\.lora_(?:embedding_)?[Aa](?:\.\w+){0,2}$")
"""PEFT's names, and llama.cpp's, which have the matrix's own name before the part."""


@dataclass(frozen=True)
class Adapter:
    """A low-rank adapter.

    base: the model that it is for; ranks: those of its tensors, from the lowest on; rank and alpha:
    as its settings say; targets: last names of the modules that it updates; modules: how many;
    note: why settings that are there could not be read.
    """

    base: str | None
    rank: int | None
    alpha: float | None
    ranks: tuple[int, ...]
    targets: tuple[str, ...]
    modules: int
    note: str | None = None


def adapter_of(artifact: Artifact, recognition: Recognition) -> Adapter | None:
    """The adapter that an artifact is or has; None for anything else."""
    if recognition.kind not in (LORA, ADAPTED):
        return None
    settings, note = _settings(artifact)
    first = _first_matrices(weights_of(artifact).by_name)
    base, rank, alpha = (settings.get(k) for k in ("base_model_name_or_path", "r", "lora_alpha"))
    return Adapter(
        base if isinstance(base, str) else None,
        rank if type(rank) is int else None,
        alpha if type(alpha) in (int, float) else None,
        tuple(sorted({shape[0] for shape in first.values() if shape})),
        tuple(sorted({module.rpartition(".")[2] for module in first})),
        len(first),
        note,
    )


def _settings(artifact: Artifact) -> tuple[Mapping[str, Any], str | None]:
    """The settings of PEFT, and why they could not be read."""
    if artifact.kind == GGUF:
        return {"lora_alpha": scalar(artifact.metadata, "adapter.lora.alpha")}, None
    try:
        content = artifact.beside(ADAPTER_CONFIG)
        if content is None:
            return {}, None
        found = parse_json(content.decode(), ADAPTER_CONFIG)
    except EntrenarError as error:
        return {}, error.message
    except UnicodeDecodeError:
        return {}, f"{ADAPTER_CONFIG}: not UTF-8"
    return (found, None) if isinstance(found, dict) else ({}, f"{ADAPTER_CONFIG}: no JSON object")


def _first_matrices(weights: Mapping[str, Weight]) -> dict[str, tuple[int, ...]]:
    """The shape of A, (rank, inputs), by the module that it updates."""
    found = {}
    for name, weight in weights.items():
        match = _A.match(name)
        if match is not None:
            found[match["module"]] = weight.shape or ()
    return found
