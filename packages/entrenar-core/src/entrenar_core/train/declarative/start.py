"""The model before its first step, and the tokenizer that it reads with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.progress import Progress
from entrenar_core import lora, models
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.sources import DatasetSpec, iter_documents
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.models.classes import labels_of, with_labels
from entrenar_core.models.config_keys import label_keys
from entrenar_core.models.holding import AS_STORED
from entrenar_core.models.packing import pack
from entrenar_core.train.declarative.spec import TrainSpec
from entrenar_core.train.declarative.tasks import REGRESSION, TaskName

__all__ = ["HEADS", "bare_model", "drawn_modules", "fresh_keys", "new_model", "tokenizer_of"]

HEADS = {
    "causal-lm": "causal-lm",
    "sequence-classification": "sequence-classification",
    "regression": "sequence-classification",
}
"""What a model is for, in the words of `models.load`, by task."""
_POSITIONS = {"gpt2": "n_positions"}
"""What the key about the longest sequence is called, where that is not max_position_embeddings."""


def tokenizer_of(
    spec: TrainSpec, folder: Path | None, texts: DatasetSpec, *, progress: Progress
) -> Tokenizer:
    """That of the model in `folder`, the one that is named, or one that is learned from `texts`.

    Raises NotFoundError where there is none, and what loading and learning raise.
    """
    section = spec.model
    if section.vocab_size is not None:
        documents = (document.text for document in iter_documents(texts))
        return train_bpe(documents, section.vocab_size, progress=progress)
    path = folder or Path(section.tokenizer or "")
    if not has_tokenizer(path):
        raise NotFoundError(
            f"{path}: there is no tokenizer",
            hint="copy the tokenizer files of the model beside its weights",
        )
    return load_tokenizer(path)


def new_model(
    spec: TrainSpec, task: TaskName, folder: Path | None, tokenizer: Tokenizer,
    labels: tuple[str, ...],
) -> Any:  # fmt: skip
    """The model that `spec` describes, equal each time: loaded from `folder` or drawn from the
    seed, with a head for the task, and with its adapter where it has one.

    A head that was drawn is trained whole beside an adapter, as PEFT does it too. Raises
    ConfigError for a model with a head for other classes, and what loading raises.
    """
    model = bare_model(spec, task, folder, tokenizer, labels)
    if spec.lora is not None:
        saved = (*spec.lora.modules_to_save, *drawn_modules(model.initialised))
        section = spec.lora.model_copy(update={"modules_to_save": tuple(dict.fromkeys(saved))})
        lora.adapt(model, section.settings(), seed=spec.training.seed)
        pack(model)
    return model


def bare_model(
    spec: TrainSpec, task: TaskName, folder: Path | None, tokenizer: Tokenizer,
    labels: tuple[str, ...],
) -> Any:  # fmt: skip
    """The same without an adapter. The weights beside one are held as they are stored, where that
    is in few bits."""
    seed, head = spec.training.seed, HEADS[task]
    if folder is None:
        keys = fresh_keys(spec, tokenizer, labels)
        model = models.from_config(keys, seed=seed, head=head)
        model.initialised = ()
        return model
    held = {}
    if spec.lora is not None:
        held = {"dtype": spec.training_config().frozen_dtype, "quantize": AS_STORED}
    drawn = None if head == "causal-lm" else seed
    model = models.load(folder, head=head, initialise_head_seed=drawn, **held)
    return model if head == "causal-lm" else _with_head(model, task, labels, folder, seed=seed)


def drawn_modules(parameters: Iterable[str]) -> tuple[str, ...]:
    """The modules of these parameters, whole names, each once."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in parameters))


def _with_head(
    model: Any, task: TaskName, labels: tuple[str, ...], folder: Path, *, seed: int
) -> Any:
    if labels_of(model) == labels and _problem(model) in (None, _problem_of(task)):
        return model
    if not model.initialised:
        raise ConfigError(
            f"{folder}: the model has a head for {_named(labels_of(model))}, and the labels are "
            f"{_named(labels)}",
            hint="give a model with these classes, or one without a classification head",
        )
    return with_labels(model, labels, head=HEADS[task], seed=seed)


def _problem(model: Any) -> str | None:
    return getattr(model.config, "problem_type", None)  # decoders have none


def _problem_of(task: TaskName) -> str:
    return "regression" if task == REGRESSION else "single_label_classification"


def _named(labels: tuple[str, ...]) -> str:
    return f"{', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}"


def fresh_keys(
    spec: TrainSpec, tokenizer: Tokenizer, labels: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The keys of a config.json: those that are given over what tokenizer and data say."""
    given = {"model_type": "llama", **(spec.model.config or {})}
    known = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
        _POSITIONS.get(str(given["model_type"]), "max_position_embeddings"): spec.data.max_length,
        **label_keys(labels or None),
    }
    return {**known, **given}
