"""What classifiers of texts are worth."""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.data.class_numbers import class_numbers, listed
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.texts import Texts, read_texts
from entrenar_core.environment import environment
from entrenar_core.models.computing import FLOAT32
from entrenar_distill.calibration import CalibrationBin
from entrenar_distill.candidates import Candidate, candidates, check_sizes
from entrenar_distill.class_figures import ClassFigures, class_bins, class_figures
from entrenar_distill.class_labels import single_labels
from entrenar_distill.class_outcomes import class_outcomes
from entrenar_distill.intervals import Figure
from entrenar_distill.task_evaluation import ModelDifference, ModelFigures, TaskEvaluation
from entrenar_distill.task_names import SEQUENCE_CLASSIFICATION
from entrenar_distill.text_readings import TextReadings, read_by

__all__ = ["evaluate_classes"]


def evaluate_classes(
    names: Sequence[str],
    *,
    data: DatasetSpec,
    label_field: str | None = None,
    pair_field: str | None = None,
    teacher: str | None = None,
    seq_len: int = 512,
    seed: int = 0,
    compute: str = FLOAT32,
    progress: Progress | None = None,
) -> TaskEvaluation:
    """Measure the classifiers called `names`, folders or names on the hub, on the texts of `data`;
    with a `teacher`, how near they are to it too.

    `label_field` holds the class of each text, by its name or number; without it there are only the
    figures beside the teacher. `pair_field` holds a second text. Texts are cut to `seq_len` ids, or
    what a model reads. Classes are matched by name, in whatever order a model has them. `compute`
    names what all models compute in, as `models.computing` has it.

    Raises ConfigError (nothing to compare with, models of different classes, a label that is none
    of them, a model without the head), UnsupportedError (another kind of classifier), NumericsError
    (a text about which a model gives no number), and what reading them raises.
    """
    started = time.monotonic()
    if label_field is None and teacher is None:
        raise ConfigError(
            "no true classes and no teacher to compare with",
            hint="name the field of the class with --label-field, or give a --teacher",
        )
    head = SEQUENCE_CLASSIFICATION
    check_sizes(seq_len)
    every = candidates(names, teacher=teacher, head=head, task=head, compute=compute)
    classes = single_labels(every[0], every[0].name)
    orders = {each.name: _order(each, classes, every[0].name) for each in every}
    number = None
    if label_field is not None:
        where = f"--label-field {label_field!a}"
        number = partial(class_numbers, labels=classes, where=where, owner=every[0].name)
    read: dict[str, Texts] = {}

    def texts_of(each: Candidate, length: int) -> Texts:
        read[each.name] = read_texts(
            data, each.tokenizer, max_length=length, pair=pair_field, label=label_field,
            number=number, progress=progress,
        )  # fmt: skip
        return read[each.name]

    found = read_by(every, texts_of, seq_len=seq_len, progress=progress or NullProgress())
    logits = {each.model: each.outputs[:, orders[each.model]] for each in found}
    labels = read[every[0].name].labels
    figures = class_figures(logits, labels, seed=seed, teacher=teacher, first=names[0])
    notes = [each.note for each in found if each.note]
    notes += [
        f"{name} has the classes in another order: they are matched by name"
        for name, order in orders.items()
        if order != sorted(order)
    ]
    return TaskEvaluation(
        task=SEQUENCE_CLASSIFICATION,
        data=data.paths,
        rows=len(read[every[0].name]),
        unit="text",
        settings=_settings(classes, found, label_field=label_field, pair_field=pair_field),
        teacher=teacher,
        seed=seed,
        compute=compute,
        intervals=figures.how,
        models=tuple(_model(each, logits, labels, figures, teacher, seed) for each in found),
        differences=tuple(
            ModelDifference(name, names[0], each) for name, each in figures.differences.items()
        ),
        notes=tuple(notes),
        environment=environment(),
        seconds=time.monotonic() - started,
    )


def _order(model: Candidate, classes: tuple[str, ...], owner: str) -> list[int]:
    """Where `model` has each of the `classes` of `owner`."""
    own = single_labels(model, model.name)
    if own == classes:
        return list(range(len(classes)))
    if sorted(own) != sorted(classes) or len(set(own)) < len(own):
        raise ConfigError(
            f"{model.name} classifies into {listed(own)}; {owner} into {listed(classes)}",
            hint="give models of the same classes; id2label in config.json names them",
        )
    return [own.index(name) for name in classes]


def _settings(
    classes: tuple[str, ...],
    found: Sequence[TextReadings],
    *,
    label_field: str | None,
    pair_field: str | None,
) -> dict[str, str]:
    shown = {
        "classes": listed(classes),
        "class of a text": label_field,
        "second text": pair_field,
        "longest text": f"{max(each.length for each in found)} ids",
    }
    return {name: value for name, value in shown.items() if value is not None}


def _model(
    found: TextReadings,
    logits: dict[str, np.ndarray],
    labels: np.ndarray | None,
    figures: ClassFigures,
    teacher: str | None,
    seed: int,
) -> ModelFigures:
    shown: dict[str, Figure | None] = dict(figures.models[found.model])
    bins: tuple[CalibrationBin, ...] = ()
    if labels is not None:
        mine = logits[found.model]
        bins = class_bins(mine, labels)
        if teacher is not None and found.model != teacher:
            right, teachers = (each.argmax(axis=1) == labels for each in (mine, logits[teacher]))
            shown |= class_outcomes(right, teachers, seed=seed)
    return ModelFigures(found.model, found.parameters, shown, found.texts_per_second, bins)
