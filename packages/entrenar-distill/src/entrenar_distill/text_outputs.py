"""What models say about whole texts: embeddings or logits, and how fast."""

import time
from collections.abc import Callable

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core.data.texts import Texts
from entrenar_core.distill import KeptTextTeacher
from entrenar_core.distill.text_teacher import said_about

__all__ = ["read_all"]

_AT_ONCE = 256


def read_all(
    model: object,
    texts: Texts,
    fill: int,
    *,
    progress: Progress,
    between: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, float]:
    """What `model` says about all `texts`, (texts, D), and how many of them it read a second.

    `progress` advances by texts; `between` is called before each few of them: it may raise to end
    the work.
    """
    order = np.argsort(texts.lengths, kind="stable")
    reader = KeptTextTeacher(model, texts, fill=fill)
    # kernels are loaded at their first call, which is not part of the time
    said_about(model, texts.select(order[:1]), fill)
    started = time.perf_counter()
    for start in range(0, len(order), _AT_ONCE):
        between()
        reader.of(order[start : start + _AT_ONCE])
        progress.advance(len(order[start : start + _AT_ONCE]))
    speed = len(texts) / (time.perf_counter() - started)
    return reader.of(np.arange(len(texts))), speed
