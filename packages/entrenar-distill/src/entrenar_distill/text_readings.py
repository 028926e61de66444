"""What measured models say about whole texts, which each reads with its own tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core.data.texts import Texts
from entrenar_core.models.computing import computed_in
from entrenar_distill.candidates import Candidate, check_finite
from entrenar_distill.naming import about
from entrenar_distill.text_inputs import padding_id, text_length
from entrenar_distill.text_outputs import read_all

__all__ = ["TextReadings", "read_by"]


@dataclass(frozen=True)
class TextReadings:
    """What one model said: outputs (texts, D), and how many texts a second; `shortened` of the
    texts were cut to `length` ids."""

    model: str
    parameters: int
    outputs: np.ndarray
    texts_per_second: float
    length: int
    shortened: int

    @property
    def note(self) -> str | None:
        """What a reader should know of texts that were cut."""
        if not self.shortened:
            return None
        count = len(self.outputs)
        return f"{self.shortened} of {count} texts are cut to {self.length} ids for {self.model}"


def read_by(
    every: Sequence[Candidate],
    texts_of: Callable[[Candidate, int], Texts],
    *,
    seq_len: int,
    progress: Progress,
) -> list[TextReadings]:
    """What each of the models says about the texts that `texts_of` it and a length gives, one model
    in memory after the other. Raises NumericsError for what is not finite, by the text's name."""
    found = []
    for each in every:
        model: Any = each.load()
        length = text_length(seq_len, [model])
        with about(each.name):
            fill = padding_id([model], each.tokenizer)
        texts = texts_of(each, length)
        progress.start("evaluate", len(texts))
        with computed_in(each.compute):
            outputs, speed = read_all(model, texts, fill, progress=progress)
        progress.finish()
        finite = np.logical_and.reduce(np.isfinite(outputs), axis=1)
        check_finite(each.name, finite, texts.names, "text")
        cut = int(texts.shortened.sum())
        count = model.parameter_count()
        found.append(TextReadings(each.name, count, outputs, speed, length, cut))
    return found
