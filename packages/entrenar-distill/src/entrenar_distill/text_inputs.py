"""Everything that a run about whole texts reads, checked before it starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, NotFoundError, UnsupportedError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.readers import Value
from entrenar_core.data.text_batches import TextBatches
from entrenar_core.data.texts import Int64, Texts, read_texts, split_texts
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.distill.text_teacher import KeptTextTeacher
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.holding import AS_STORED
from entrenar_core.models.packing import pack
from entrenar_core.models.pooling import Pooling
from entrenar_core.train.rows import total_steps
from entrenar_core.train.run_folder import DATASET_REVISION
from entrenar_distill import features, quantized
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import dataset_spec
from entrenar_distill.students import student_folder
from entrenar_distill.text_students import bare_text_student, make_text_student, missing_head

__all__ = [
    "TextInputs",
    "check_rows",
    "padding_id",
    "read_text_inputs",
    "teacher_folder",
    "teacher_of",
    "text_length",
]


@dataclass(frozen=True)
class TextInputs:
    """A run's models and data.

    `head` is what the models are for; `max_length` the ids that a text is cut to, and `fill` that
    of padding; `texts` is the fingerprint of all texts. `told` has what the teacher says about the
    texts that were held out. Of the student there are its config, how many numbers it has, and how
    it pools, where it does. `quantization` and `features` are as in `Inputs`.
    """

    config: DistillConfig
    head: str
    teacher: Any
    teacher_folder: Path
    student_folder: Path | None
    tokenizer: Tokenizer
    train: Texts
    held_out: Texts
    batches: TextBatches
    fill: int
    max_length: int
    texts: str
    told: KeptTextTeacher
    student_config: Any
    student_parameters: int
    pooling: Pooling | None
    quantization: str | None = None
    features: str | None = None

    def new_student(self) -> Any:
        """The student before its first step: equal each time, so that the control starts there."""
        student = make_text_student(self.config, self.teacher, self.student_folder, self.head)
        return with_length(student, self.max_length)

    def bare_student(self) -> Any:
        """The model that the student's adapter is trained on, without it."""
        student = bare_text_student(self.config, self.teacher, self.student_folder, self.head)
        return with_length(student, self.max_length)

    def fingerprints(self) -> dict[str, str]:
        """A hash of each input: what a run was started with, and must be continued with."""
        found = {
            "teacher": models.hash_of_model(self.teacher_folder),
            "tokenizer": self.tokenizer.fingerprint,
            "texts": self.texts,
        }
        if self.train.revision is not None:
            found[DATASET_REVISION] = self.train.revision
        if self.student_folder is not None:
            found["student"] = models.hash_of_model(self.student_folder)
        return found

    @property
    def several_epochs(self) -> bool:
        """Whether texts come again, so that what the teacher says about them is worth keeping."""
        training = self.config.training
        micro_batches = total_steps(training, self.batches) * training.gradient_accumulation
        return micro_batches > self.batches.steps_per_epoch


def read_text_inputs(
    config: DistillConfig,
    head: str,
    *,
    numbering: Callable[[Any], Callable[[Sequence[Value]], Int64] | None],
    progress: Progress,
) -> TextInputs:
    """Load what `config` names. Everything that can be wrong with it is an error here, before
    anything is trained or written.

    `numbering(teacher)` checks that the teacher is one for the task; it returns what makes class
    numbers of labels, None where there are none.
    """
    folder, tokenizer = teacher_folder(config)
    teacher = teacher_of(folder, head, config)
    number = numbering(teacher)
    student_from = student_folder(config)
    _check_tokenizers(student_from, tokenizer)
    student = make_text_student(config, teacher, student_from, head)
    for name, model in (("the teacher", teacher), ("the student", student)):
        check_rows(name, model, tokenizer)
    both = (teacher, student)
    length, fill = text_length(config.dataset.max_length, both), padding_id(both, tokenizer)
    inside = features.terms(config.distillation, student, teacher, seed=config.training.seed)
    dataset, training = config.dataset, config.training
    texts = read_texts(
        dataset_spec(dataset), tokenizer, max_length=length, pair=dataset.text_pair_field,
        label=dataset.label_field, number=number, progress=progress,
    )  # fmt: skip
    train, held_out = split_texts(texts, dataset.held_out, training.seed)
    batches = TextBatches(
        train, batch_size=training.batch_size, accumulation=training.gradient_accumulation,
        seed=training.seed, fill=fill,
    )  # fmt: skip
    steps = total_steps(training, batches)  # raises when there is not even one
    features.check_steps(inside, steps)
    return TextInputs(
        config=config,
        head=head,
        teacher=teacher,
        teacher_folder=folder,
        student_folder=student_from,
        tokenizer=tokenizer,
        train=train,
        held_out=held_out,
        batches=batches,
        fill=fill,
        max_length=length,
        texts=texts.fingerprint,
        told=KeptTextTeacher(teacher, held_out, fill=fill),
        student_config=student.config,
        student_parameters=student.parameter_count(),
        pooling=student.sentence.pooling if hasattr(student, "sentence") else None,
        quantization=quantized.check(student, config, steps, tokenizer),
        features=features.summary(inside),
    )


def with_length(student: Any, max_length: int) -> Any:
    """An embedding model says in its files after how many ids texts are cut; no more than it has
    learned from."""
    if hasattr(student, "sentence"):
        student.sentence = student.sentence.cut_to(max_length)
    return student


def teacher_folder(config: DistillConfig) -> tuple[Path, Tokenizer]:
    """Where the one teacher lies, and its tokenizer.

    Raises UnsupportedError for several teachers, one in a file and predictions in a cache, and
    NotFoundError without a tokenizer.
    """
    section, *others = config.teachers
    if others:
        raise UnsupportedError(
            f"{len(config.teachers)} teachers for {config.task}",
            hint="give one: only language models are learned from several",
        )
    if section.cache is not None:
        raise UnsupportedError(
            f"teacher.cache for {config.task}",
            hint="leave it out: only predictions of language models are cached",
        )
    path = resolve_model(section.model_id, section.revision)
    if not path.is_dir():
        raise UnsupportedError(
            f"{path}: a teacher for {config.task} in a file", hint="give a model folder"
        )
    if not has_tokenizer(path):
        raise NotFoundError(
            f"{path}: the teacher has no tokenizer.json",
            hint="copy the tokenizer files of the model into its folder",
        )
    return path, load_tokenizer(path)


def teacher_of(folder: Path, head: str, config: DistillConfig) -> Any:
    """The teacher in `folder` with this `head`. Raises ConfigError for one without."""
    missing = missing_head(folder, head)
    if missing:
        raise ConfigError(
            f"{folder}: the teacher has no head for {config.task}: {', '.join(missing)} missing",
            hint="give a teacher that was trained for the task",
        )
    dtype, quantize = config.training.frozen_dtype, config.teachers[0].quantize
    teacher = models.load(folder, head=head, dtype=dtype, quantize=quantize or AS_STORED)
    teacher.freeze()
    pack(teacher)
    return teacher


def _check_tokenizers(student: Path | None, teachers: Tokenizer) -> None:
    if student is None or not has_tokenizer(student):
        return
    if not teachers.same_as(load_tokenizer(student)):
        raise ConfigError(
            f"{student}: the student's tokenizer is not the teacher's, and both read the same ids",
            hint="distil into a student with the teacher's tokenizer",
        )


def check_rows(name: str, model: Any, tokenizer: Tokenizer) -> None:
    """Raise ConfigError where the tokenizer has ids for which the model called `name` has no
    row."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but {name}'s embedding has "
            f"{model.config.vocab_size} rows",
            hint=f"{name} was made for another tokenizer, or its vocab_size is wrong",
        )


def text_length(length: int, models: Sequence[Any]) -> int:
    """The ids that texts are cut to: `length`, and no more than any of the models reads."""
    for model in models:
        positions = getattr(model.config, "positions", model.config.max_position_embeddings)
        sentence = getattr(model, "sentence", None)
        cut = None if sentence is None else sentence.max_tokens
        length = min(length, positions, cut or length)
    return length


def padding_id(models: Sequence[Any], tokenizer: Tokenizer) -> int:
    """The id of padding. Models tell padding by it besides the mask, so theirs comes first."""
    known = [model.config.pad_token_id for model in models]
    known = [number for number in known if number is not None]
    if len(set(known)) > 1:
        raise ConfigError(
            f"the teacher pads with the id {known[0]}, the student with {known[1]}",
            hint="set pad_token_id of the student to the teacher's",
        )
    last = (tokenizer.pad_id, tokenizer.eos_id, 0)
    return next(number for number in (*known, *last) if number is not None)
