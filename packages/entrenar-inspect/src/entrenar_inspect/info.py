"""What `entrenar-inspect info` says of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_inspect import info_view
from entrenar_inspect.adapter import Adapter, adapter_of
from entrenar_inspect.artifact import Artifact, WeightFile
from entrenar_inspect.card import Card, card_of
from entrenar_inspect.dimensions import Dimensions, dimensions
from entrenar_inspect.metadata import plain
from entrenar_inspect.parameters import Parameters, count_parameters
from entrenar_inspect.quantization import quantization_of
from entrenar_inspect.recognise import Recognition, recognise
from entrenar_inspect.tokenizers_beside import Tokenizer, tokenizer_of


@dataclass(frozen=True)
class Info:
    """What an artifact is.

    model: as the user wrote it; format: of its files; nbytes: of the files that hold tensors;
    bits_per_weight: of these files; warnings: what contradicts something else; fetched: bytes that
    came over the network; whole_metadata: whether all metadata is shown, not only a part.
    """

    model: str
    format: str
    recognition: Recognition
    parameters: Parameters
    dimensions: Dimensions
    tensors: int
    nbytes: int
    bits_per_weight: float | None
    files: tuple[WeightFile, ...]
    tokenizer: Tokenizer | None
    quantization: str | None
    quantization_config: Mapping[str, Any] | None
    adapter: Adapter | None
    card: Card
    metadata: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    fetched: int | None
    whole_metadata: bool

    def __view__(self) -> list[Any]:
        return info_view.parts(self)


def info(artifact: Artifact, *, whole_metadata: bool = False) -> Info:
    """Everything that headers, metadata and the small files beside them say of an artifact."""
    recognition = recognise(artifact)
    parameters = count_parameters(artifact, recognition)
    measured = dimensions(artifact, recognition)
    adapter, card = adapter_of(artifact, recognition), card_of(artifact)
    stated = artifact.config.get("quantization_config")
    notes = (
        *artifact.notes, *parameters.notes, card.note, adapter.note if adapter else None,
    )  # fmt: skip
    vision = measured.vision
    contradictions = (
        recognition.contradiction, *measured.disagreements,
        *(vision.disagreements if vision else ()),
    )  # fmt: skip
    return Info(
        artifact.spec,
        artifact.kind,
        recognition,
        parameters,
        measured,
        len(artifact.tensors),
        artifact.nbytes,
        8 * artifact.nbytes / parameters.total if parameters.total else None,
        artifact.files,
        tokenizer_of(artifact),
        quantization_of(artifact),
        stated if isinstance(stated, dict) else None,
        adapter,
        card,
        plain(artifact.metadata),
        tuple(note for note in notes if note),
        tuple(text for text in contradictions if text),
        artifact.fetched,
        whole_metadata,
    )
