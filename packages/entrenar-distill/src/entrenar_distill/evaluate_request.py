"""What the options of `evaluate` ask for; one that goes with another task, or with data that is not
given, is refused, because it would do nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.models.computing import FLOAT32
from entrenar_distill.evaluate import EvaluationReport, evaluate
from entrenar_distill.evaluate_classes import evaluate_classes
from entrenar_distill.evaluate_embeddings import evaluate_embeddings
from entrenar_distill.evaluate_masked import MASK_SHARE, evaluate_masked
from entrenar_distill.evaluate_task import check_teacher_task, task_of_models
from entrenar_distill.generation import GenerationRequest
from entrenar_distill.task_evaluation import TaskEvaluation
from entrenar_distill.task_names import (
    CAUSAL_LM,
    MASKED_LM,
    SENTENCE_EMBEDDING,
    SEQUENCE_CLASSIFICATION,
)

__all__ = ["EvaluateOptions", "measured"]

Report = EvaluationReport | TaskEvaluation


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of the command by their names; None, or nothing, where one was not given."""

    data: tuple[str, ...] = ()
    format: str | None = None
    text_field: str | None = None
    max_documents: int | None = None
    text_pair_field: str | None = None
    label_field: str | None = None
    mask_share: float | None = None
    batch_size: int | None = None
    generate: tuple[str, ...] = ()
    prompt_field: str | None = None
    reference_field: str | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    max_rows: int | None = None
    seq_len: int = 512
    seed: int = 0
    compute: str = FLOAT32


_OF_DATA = ("format", "text_field", "max_documents", "text_pair_field", "label_field", "mask_share")
_OF_GENERATION = (
    "prompt_field", "reference_field", "max_new_tokens", "temperature", "stop", "max_rows",
)  # fmt: skip
_WHOLE_TEXTS = (SENTENCE_EMBEDDING, SEQUENCE_CLASSIFICATION)
_TASKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("generate", *_OF_GENERATION), (CAUSAL_LM,)),
    "text_pair_field": _WHOLE_TEXTS,
    "label_field": _WHOLE_TEXTS,
    "mask_share": (MASKED_LM,),
    "batch_size": (CAUSAL_LM, MASKED_LM),
}
"""The tasks that an option goes with, where these are not all."""


def measured(
    models: Sequence[str],
    *,
    task: str | None,
    teacher: str | None,
    options: EvaluateOptions,
    progress: Progress,
) -> Report:
    """The figures of `models` for `task`, or for the task that they say.

    Raises ConfigError for an option that would do nothing, and what measuring raises.
    """
    chosen = task or task_of_models(models)
    for option, tasks in _TASKS.items():
        if getattr(options, option) not in (None, ()) and chosen not in tasks:
            raise ConfigError(
                f"{_written(option)} goes with {' or '.join(tasks)}, not with {chosen}",
                hint="leave it out, or say with --task what else the models are for",
            )
    _check_owner(options, _OF_DATA, "data")
    _check_owner(options, _OF_GENERATION, "generate")
    if chosen != CAUSAL_LM and not options.data:
        raise ConfigError("nothing to measure", hint="give texts with --data")
    if teacher and task is None and options.data:
        check_teacher_task(teacher, chosen)
    return _MEASURES[chosen](models, teacher, options, progress)


def _check_owner(options: EvaluateOptions, names: Sequence[str], owner: str) -> None:
    given = [name for name in names if getattr(options, name) not in (None, ())]
    if given and not getattr(options, owner):
        shown = ", ".join(map(_written, given))
        raise ConfigError(f"{shown} without --{owner}", hint=f"give --{owner} too, or leave it out")


def _written(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _documents(options: EvaluateOptions) -> DatasetSpec:
    return DatasetSpec(options.data, **_given(options, ("format", "text_field", "max_documents")))


def _given(options: EvaluateOptions, names: Sequence[str]) -> dict[str, Any]:
    found = {name: getattr(options, name) for name in names}
    return {name: value for name, value in found.items() if value not in (None, ())}


def _text(
    models: Sequence[str], teacher: str | None, options: EvaluateOptions, progress: Progress
) -> Report:
    generate = None
    if options.generate:
        generate = GenerationRequest(options.generate, **_given(options, _OF_GENERATION))
    return evaluate(
        models, data=_documents(options) if options.data else None, teacher=teacher,
        generate=generate, seq_len=options.seq_len, batch_size=options.batch_size,
        seed=options.seed, compute=options.compute, progress=progress,
    )  # fmt: skip


def _masked(
    models: Sequence[str], teacher: str | None, options: EvaluateOptions, progress: Progress
) -> Report:
    share = MASK_SHARE if options.mask_share is None else options.mask_share
    return evaluate_masked(
        models, data=_documents(options), teacher=teacher, seq_len=options.seq_len,
        batch_size=options.batch_size, share=share, seed=options.seed, compute=options.compute,
        progress=progress,
    )  # fmt: skip


def _classes(
    models: Sequence[str], teacher: str | None, options: EvaluateOptions, progress: Progress
) -> Report:
    return evaluate_classes(
        models, data=_documents(options), label_field=options.label_field,
        pair_field=options.text_pair_field, teacher=teacher, seq_len=options.seq_len,
        seed=options.seed, compute=options.compute, progress=progress,
    )  # fmt: skip


def _embeddings(
    models: Sequence[str], teacher: str | None, options: EvaluateOptions, progress: Progress
) -> Report:
    return evaluate_embeddings(
        models, data=_documents(options), pair_field=options.text_pair_field,
        score_field=options.label_field, teacher=teacher, seq_len=options.seq_len,
        seed=options.seed, compute=options.compute, progress=progress,
    )  # fmt: skip


_MEASURES: dict[str, Callable[[Sequence[str], str | None, EvaluateOptions, Progress], Report]] = {
    CAUSAL_LM: _text,
    MASKED_LM: _masked,
    SENTENCE_EMBEDDING: _embeddings,
    SEQUENCE_CLASSIFICATION: _classes,
}
