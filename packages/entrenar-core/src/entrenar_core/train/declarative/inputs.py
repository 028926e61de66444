"""Everything that a training reads, checked before it starts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.convert.gguf import check_gguf
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.row_fields import field_numbers
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.text_batches import TextBatches
from entrenar_core.data.texts import Labels, Texts, read_texts, split_texts
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.architectures import model_class
from entrenar_core.models.classes import labels_of
from entrenar_core.models.stored import StoredModel
from entrenar_core.train.declarative import merging, start
from entrenar_core.train.declarative.inference import Decision, decide
from entrenar_core.train.declarative.labels import Classes, numbers
from entrenar_core.train.declarative.spec import TrainSpec
from entrenar_core.train.declarative.tasks import CAUSAL_LM, REGRESSION
from entrenar_core.train.declarative.unfit import unfit
from entrenar_core.train.precision_notes import precision_notes
from entrenar_core.train.quantization import quantized
from entrenar_core.train.rows import Rows, total_steps

__all__ = ["Inputs", "read_inputs"]

Documents = TokenizedDocuments | Texts
ONE_NUMBER = ("LABEL_0",)
"""What the one output of a regression is called, as transformers calls it."""


@dataclass(frozen=True)
class Inputs:
    """A training's model and data.

    folder:   where the model that is started from lies; None for one that is made here
    labels:   the classes, or the one output of a regression; none for causal-lm
    fill:     the id of padding of whole texts
    steps:    optimizer steps of the training
    trained, parameters: numbers that are trained, and that the model has
    words:    what is special about the model that is trained, by name
    """

    spec: TrainSpec
    decision: Decision
    folder: Path | None
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    train: Documents
    held_out: Documents
    batches: Rows
    fill: int
    max_length: int
    steps: int
    trained: int
    parameters: int
    words: dict[str, str]

    def new_model(self) -> Any:
        """The model before its first step, equal each time."""
        return start.new_model(
            self.spec, self.decision.task, self.folder, self.tokenizer, self.labels
        )

    def bare_model(self) -> Any:
        """The same without its adapter."""
        return start.bare_model(
            self.spec, self.decision.task, self.folder, self.tokenizer, self.labels
        )

    def fingerprints(self) -> dict[str, str]:
        """A hash of each input: what a run was started with, and must be continued with."""
        found = {
            "tokenizer": self.tokenizer.fingerprint,
            "training data": self.train.fingerprint,
            "held-out data": self.held_out.fingerprint,
        }
        if self.folder is not None:
            found["model"] = models.hash_of_model(self.folder)
        return found

    def warnings(self) -> list[str]:
        """What a user should know of the inputs before the run."""
        found = [] if isinstance(self.train, Texts) else list(self.train.warnings)
        skips = self.train.skips
        if skips.count:
            found.append(f"{skips.count} rows are left out: {'; '.join(skips.problems[:1])}, …")
        if isinstance(self.train, Texts) and (cut := int(self.train.shortened.sum())):
            found.append(
                f"{cut} of {len(self.train)} training texts are cut to {self.max_length} ids"
            )
        return found + precision_notes(self.spec.training)


def read_inputs(spec: TrainSpec, *, progress: Progress) -> Inputs:
    """Load what `spec` names. Everything that can be wrong with it is an error here, before
    anything is trained or written."""
    folder = resolve_model(spec.model.path, spec.model.revision) if spec.model.path else None
    dataset = _dataset(spec, spec.data.train)
    decision = decide(spec, dataset, progress=progress)
    _check_task(spec, decision)
    texts = replace(dataset, text_field=decision.text_field)
    tokenizer = start.tokenizer_of(spec, folder, texts, progress=progress)
    read = _read_documents if decision.task == CAUSAL_LM else _read_texts
    inputs = read(spec, decision, folder, tokenizer, texts, progress)
    return _measured(inputs)


def _dataset(spec: TrainSpec, paths: tuple[str, ...]) -> DatasetSpec:
    data = spec.data
    return DatasetSpec(paths=paths, format=data.format, skip_bad=data.skip_bad)


def _check_task(spec: TrainSpec, decision: Decision) -> None:
    task = decision.task
    problem = unfit(task, spec.training, packing=spec.data.packing)
    if problem is not None:
        raise ConfigError(str(problem), hint=f"the task is {task}: {'; '.join(decision.why)}")
    if task == CAUSAL_LM:
        return
    if spec.recipe is not None:
        raise UnsupportedError(
            f"{task} with a GGUF file: llama.cpp has no place for the head",
            hint="give quantize.bits or quantize.weights",
        )
    if spec.merge is not None:
        raise UnsupportedError(
            f"merge after {task}: models with heads of their own differ",
            hint=f"leave merge out, or say task: {CAUSAL_LM}",
        )


def _read_documents(
    spec: TrainSpec, decision: Decision, folder: Path | None, tokenizer: Tokenizer,
    dataset: DatasetSpec, progress: Progress,
) -> Inputs:  # fmt: skip
    """Inputs of a language model: documents one after another."""
    data = spec.data
    if tokenizer.eos_id is None:
        raise ConfigError(
            f"the tokenizer of {spec.model.name} names no end-of-text token",
            hint="name one as eos_token in tokenizer_config.json: it separates documents",
        )
    documents = tokenize(dataset, tokenizer, progress=progress)
    if data.val is None:
        train, held_out = split(documents, data.share or 0, spec.training.seed)
    else:
        val = replace(dataset, paths=data.val)
        train, held_out = documents, tokenize(val, tokenizer, progress=progress)
    batches = Batches(
        train, seq_len=data.max_length, batch_size=data.batch_size, seed=spec.training.seed,
        eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id, packing=data.packing,
    )  # fmt: skip
    return Inputs(
        spec, decision, folder, tokenizer, (), train, held_out,
        _in_order(spec, dataset, train, batches), fill=0,
        max_length=data.max_length, steps=total_steps(spec.training_config(), batches),
        trained=0, parameters=0, words={},
    )  # fmt: skip


def _in_order(
    spec: TrainSpec, dataset: DatasetSpec, train: TokenizedDocuments, batches: Batches
) -> Rows:
    """`batches`, with the easy rows first where that is asked for."""
    section, seed = spec.training.curriculum, spec.training.seed
    if section is None:
        return batches
    key = "training.curriculum.field"
    numbers = field_numbers(dataset, section.field, train.names, setting=key)
    accumulation = spec.training.gradient_accumulation
    return section.batches(batches, batches.means(numbers), seed=seed, accumulation=accumulation)


def _read_texts(
    spec: TrainSpec, decision: Decision, folder: Path | None, tokenizer: Tokenizer,
    dataset: DatasetSpec, progress: Progress,
) -> Inputs:  # fmt: skip
    """Inputs of a model that says one thing of each text."""
    data, field = spec.data, decision.label_field
    assert field is not None  # `decide` gives these tasks one
    known = () if decision.task == REGRESSION else _classes(folder)
    classes = Classes(field, known)
    number: Callable[[Any], Labels] = classes
    if decision.task == REGRESSION:
        number = partial(numbers, field=field)
    config = _config(spec, folder, tokenizer)
    length = min(data.max_length, _positions(config))
    reading = partial(
        read_texts, tokenizer=tokenizer, max_length=length, label=field, number=number,
        any_number=True, progress=progress,
    )  # fmt: skip
    texts = reading(dataset)
    if data.val is None:
        train, held_out = split_texts(texts, data.share or 0, spec.training.seed)
    else:
        train, held_out = texts, reading(replace(dataset, paths=data.val))
    labels = ONE_NUMBER if decision.task == REGRESSION else classes.names
    padding = (config.pad_token_id, tokenizer.pad_id, tokenizer.eos_id, 0)
    fill = next(number for number in padding if number is not None)
    batches = TextBatches(
        train, batch_size=data.batch_size, accumulation=spec.training.gradient_accumulation,
        seed=spec.training.seed, fill=fill,
    )  # fmt: skip
    return Inputs(
        spec, decision, folder, tokenizer, labels, train, held_out, batches, fill=fill,
        max_length=length, steps=total_steps(spec.training_config(), batches),
        trained=0, parameters=0, words={},
    )  # fmt: skip


def _classes(folder: Path | None) -> tuple[str, ...]:
    """The classes of a model that has learned some; none where the data says them."""
    if folder is None:
        return ()
    with StoredModel(folder, head="sequence-classification", head_may_miss=True) as found:
        names = labels_of(found.model)
        nameless = names == tuple(f"LABEL_{i}" for i in range(len(names)))
        return () if found.missing or nameless else names


def _config(spec: TrainSpec, folder: Path | None, tokenizer: Tokenizer) -> Any:
    """The config of the model, but for its labels."""
    if folder is not None:
        return models.read_config(folder)
    keys = start.fresh_keys(spec, tokenizer)
    return model_class(keys, None).Config.from_hf(keys)


def _positions(config: Any) -> int:
    """How many ids a model reads at once."""
    return getattr(config, "positions", config.max_position_embeddings)


def _measured(inputs: Inputs) -> Inputs:
    """`inputs` with what is known of their model, which is made once to see that it can be."""
    spec, model = inputs.spec, inputs.new_model()
    config, data = model.config, spec.data
    if inputs.tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {inputs.tokenizer.vocab_size} ids, but the model's embedding has "
            f"{config.vocab_size} rows",
            hint="the model was made for another tokenizer, or its vocab_size is wrong",
        )
    positions = _positions(config)
    if inputs.decision.task == CAUSAL_LM and data.max_length > positions:
        raise ConfigError(
            f"data.max_length {data.max_length} is more than the model's {positions} positions",
            hint="lower data.max_length",
        )
    trained = {n: p for n, p in model.named_parameters().items() if p.requires_grad}
    spec.optimizer.make(trained)  # raises where it is not for such parameters
    count = sum(parameter.size for parameter in trained.values())
    words = _words(inputs, model)
    if spec.merge is not None:
        words["merged"] = merging.check(spec.merge, inputs.folder)
    return replace(inputs, trained=count, parameters=model.parameter_count(), words=words)


def _words(inputs: Inputs, model: Any) -> dict[str, str]:
    spec, words = inputs.spec, dict[str, str]()
    if inputs.labels and inputs.decision.task != REGRESSION:
        words["classes"] = f"{len(inputs.labels)}: {', '.join(inputs.labels[:10])}"
    if spec.recipe is not None:
        check_gguf(model, inputs.tokenizer)
    if spec.lora is not None:
        words["adapter"] = f"rank {spec.lora.rank}, alpha {spec.lora.alpha:g}"
        if model.initialised:
            drawn = ", ".join(start.drawn_modules(model.initialised))
            words["trained whole"] = f"{drawn}, which the model had not"
    if spec.quantize is not None:
        settings = spec.quantize.settings()
        handle = quantized(model, settings, seed=spec.training.seed, steps=inputs.steps)
        words["stored as"] = (
            f"{len(handle.matrices)} matrices in {settings.name}, all of it from step "
            f"{settings.schedule.last} on"
        )
    return words
