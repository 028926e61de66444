"""What models that make vectors of texts are worth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.data.scored_pairs import read_scored_pairs
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.texts import Texts, read_texts
from entrenar_core.environment import environment
from entrenar_core.models.computing import FLOAT32
from entrenar_distill.candidates import Candidate, candidates, check_sizes
from entrenar_distill.correlations import correlations
from entrenar_distill.embedding_figures import PAIRED, cosines, embedding_figures
from entrenar_distill.intervals import Figure, IntervalMethod
from entrenar_distill.task_evaluation import ModelDifference, ModelFigures, TaskEvaluation
from entrenar_distill.task_names import SENTENCE_EMBEDDING
from entrenar_distill.text_readings import TextReadings, read_by

__all__ = ["evaluate_embeddings"]


@dataclass(frozen=True)
class _Found:
    """Figures and differences by model, some of a teacher and some of scores."""

    how: IntervalMethod
    models: dict[str, dict[str, Figure | None]]
    differences: dict[str, dict[str, Figure]]


def evaluate_embeddings(
    names: Sequence[str],
    *,
    data: DatasetSpec,
    pair_field: str | None = None,
    score_field: str | None = None,
    teacher: str | None = None,
    seq_len: int = 512,
    seed: int = 0,
    compute: str = FLOAT32,
    progress: Progress | None = None,
) -> TaskEvaluation:
    """Measure the embedding models called `names`, folders, files or names on the hub, on the texts
    of `data`: beside a `teacher`, or on pairs, of which `pair_field` holds the second text and
    `score_field` a number that says how alike the two are; or both.

    Texts are cut to `seq_len` ids, or what a model reads. Of many texts, `seed` decides which are
    compared with each other. `compute` names what all models compute in, as `models.computing` has
    it.

    Raises ConfigError (nothing to compare with, one of the fields without the other, a model that
    makes no vectors), NumericsError (a text of which a model makes no numbers), and what reading
    them raises.
    """
    started, progress = time.monotonic(), progress or NullProgress()
    if (pair_field is None) != (score_field is None):
        raise ConfigError(
            "pairs need both a second text and a score",
            hint="give --text-pair-field and --label-field, or neither",
        )
    if teacher is None and pair_field is None:
        raise ConfigError(
            "no teacher and no scored pairs to compare with",
            hint="give a --teacher, or pairs by --text-pair-field and --label-field",
        )
    check_sizes(seq_len)
    every = candidates(
        names, teacher=teacher, head="embedding", task=SENTENCE_EMBEDDING, compute=compute
    )
    scores: list[np.ndarray] = []

    def texts_of(each: Candidate, length: int) -> Texts:
        if pair_field is None or score_field is None:
            return read_texts(data, each.tokenizer, max_length=length, progress=progress)
        pairs = read_scored_pairs(
            data, each.tokenizer, max_length=length, pair=pair_field, score=score_field
        )
        scores.append(pairs.scores)
        return pairs.texts

    read = read_by(every, texts_of, seq_len=seq_len, progress=progress)
    wanted = scores[0] if scores else None
    found = _figures({each.model: each.outputs for each in read}, wanted, teacher, names[0], seed)
    texts = len(read[0].outputs)
    return TaskEvaluation(
        task=SENTENCE_EMBEDDING,
        data=data.paths,
        rows=texts if wanted is None else len(wanted),
        unit="text" if wanted is None else "pair",
        settings=_settings(read, pair_field, score_field),
        teacher=teacher,
        seed=seed,
        compute=compute,
        intervals=found.how,
        models=tuple(
            ModelFigures(
                each.model, each.parameters, found.models[each.model], each.texts_per_second
            )
            for each in read
        ),
        differences=tuple(
            ModelDifference(name, names[0], each) for name, each in found.differences.items()
        ),
        notes=_notes(read, teacher, texts),
        environment=environment(),
        seconds=time.monotonic() - started,
    )


def _figures(
    vectors: Mapping[str, np.ndarray],
    scores: np.ndarray | None,
    teacher: str | None,
    first: str,
    seed: int,
) -> _Found:
    """What there is beside the teacher, and on pairs."""
    models: dict[str, dict[str, Figure | None]] = {name: {} for name in vectors}
    differences: dict[str, dict[str, Figure]] = {}
    how: IntervalMethod | None = None
    if teacher is not None:
        others = {name: each for name, each in vectors.items() if name != teacher}
        width = vectors[teacher].shape[1]
        near = embedding_figures(
            vectors[teacher],
            others,
            {name: each for name, each in others.items() if each.shape[1] == width},
            seed=seed,
            first=first,
            together=1 if scores is None else 2,
        )
        how = near.how
        for name, figures in near.models.items():
            models[name] = {"cosine": figures["cosine"], "similarities": figures["spearman"]}
        differences |= near.differences
    if scores is not None:
        alike = {name: cosines(*np.split(each, 2)) for name, each in vectors.items()}
        going = correlations(alike, scores, seed=seed, first=first)
        how = going.how
        for name, figures in going.models.items():
            models[name] |= figures
        for name, figures in going.differences.items():
            if name != teacher:
                differences[name] = differences.get(name, {}) | figures
    assert how is not None
    return _Found(how, models, differences)


def _settings(
    read: Sequence[TextReadings], pair_field: str | None, score_field: str | None
) -> dict[str, str]:
    shown = {
        "second text": pair_field,
        "score of a pair": score_field,
        "longest text": f"{max(each.length for each in read)} ids",
    }
    return {name: value for name, value in shown.items() if value is not None}


def _notes(read: Sequence[TextReadings], teacher: str | None, texts: int) -> tuple[str, ...]:
    notes = [each.note for each in read if each.note]
    if teacher is not None:
        width = read[0].outputs.shape[1]
        notes += [
            f"{each.model} makes vectors of {each.outputs.shape[1]} numbers, the teacher of "
            f"{width}: there is no cosine between them"
            for each in read
            if each.outputs.shape[1] != width
        ]
        if texts > PAIRED:
            notes.append(f"similarities are those between {PAIRED} of the {texts} texts")
    return tuple(notes)
