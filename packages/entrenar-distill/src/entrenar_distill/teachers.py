"""The models that are learned from: loaded, given the student's ids, and asked."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, EntrenarError, NotFoundError
from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_gguf import as_in_gguf
from entrenar_core.distill import (
    LiveTeacher,
    MixedTeacher,
    RoutedTeacher,
    Teacher,
    Vocabulary,
    decide,
)
from entrenar_core.distill.vocabulary import different_tokenizers
from entrenar_core.io.hub import resolve_model
from entrenar_core.io.kinds import is_apr, is_gguf
from entrenar_core.models.holding import AS_STORED
from entrenar_core.train.predicting import Blend
from entrenar_distill.cached import StoredTeacher, loaded
from entrenar_distill.naming import about
from entrenar_distill.routes import Routes
from entrenar_distill.teacher_section import TeacherConfig


@dataclass(frozen=True)
class LoadedTeacher:
    """A model that is learned from, or where it lies (`cached.StoredTeacher`) if its predictions
    are in a cache.

    `name` is what messages and reports call it: "teacher", of several "teacher 1" and so on; `path`
    is its folder or file; `tokenizer` its own. `vocabulary` says how its ids are related to the
    student's, and the model has the student's ids, once `with_ids_of` was called.
    """

    name: str
    section: TeacherConfig
    path: Path
    model: Any
    tokenizer: Tokenizer
    vocabulary: Vocabulary

    def with_ids_of(
        self, student: Any, tokenizer: Tokenizer, *, across: bool = False
    ) -> "LoadedTeacher":
        """The same with the ids of a student that has this tokenizer: a model whose tokens are
        numbered in another way is numbered anew, in place.

        Raises ConfigError for tokenizers that cut texts differently; for learning `across` these,
        for tokenizers that do not.
        """
        # of one teacher everything is said without its name
        with nullcontext() if self.name == "teacher" else about(self.name):
            found = self._decided(student, tokenizer)
            if found.kind == "different" and is_gguf(self.path):
                # a GGUF file does not say all of a tokenizer: compare with what it would say
                found = self._decided(student, _as_in_gguf(tokenizer))
            if found.kind == "different" and not across:
                raise different_tokenizers(found.reason, self.tokenizer, tokenizer)
            if found.kind != "different" and across:
                raise ConfigError(
                    "distillation.cross_tokenizer: teacher and student have the same tokenizer of "
                    f"{tokenizer.vocab_size} ids",
                    hint="leave distillation.cross_tokenizer out: their logits are compared id by "
                    "id",
                )
        if found.kind == "permuted":
            if isinstance(self.model, StoredTeacher):
                raise ConfigError(
                    f"{self.path}: the teacher's ids are the student's in another order, and "
                    "teacher.cache has its predictions by its own",
                    hint="leave teacher.cache out",
                )
            models.relabel(self.model, found.order())
        return replace(self, vocabulary=found)

    @property
    def fingerprint(self) -> str:
        """A hash of its weights, and where its ids are not the student's, of its tokenizer."""
        found = models.hash_of_model(self.path)
        if self.vocabulary.kind != "permuted":
            return found
        return hashlib.sha256(f"{found} {self.tokenizer.fingerprint}".encode()).hexdigest()

    def _decided(self, student: Any, tokenizer: Tokenizer) -> Vocabulary:
        return decide(
            self.tokenizer,
            tokenizer,
            teacher_rows=self.model.config.vocab_size,
            student_rows=student.config.vocab_size,
        )


def _as_in_gguf(tokenizer: Tokenizer) -> Tokenizer:
    try:
        return as_in_gguf(tokenizer)
    except EntrenarError:  # it cannot be written as GGUF, so no such file has it
        return tokenizer


def load_teachers(sections: Sequence[TeacherConfig], *, dtype: str) -> list[LoadedTeacher]:
    """The models of `sections`, frozen, with what is not in few bits as `dtype`.

    Raises what `models.load` and `load_tokenizer` raise, NotFoundError for a model without a
    tokenizer, and ConfigError for a revision or format that is not that of what there is.
    """
    several = len(sections) > 1
    return [
        _load(section, f"teacher {n}" if several else "teacher", dtype)
        for n, section in enumerate(sections, 1)
    ]


def _load(section: TeacherConfig, name: str, dtype: str) -> LoadedTeacher:
    path = resolve_model(section.model_id, section.revision)
    _check_kind(section, name, path)
    if not has_tokenizer(path):
        missing = "tokenizer" if path.is_file() else "tokenizer.json"
        raise NotFoundError(
            f"{path}: the {name} has no {missing}",
            hint="copy the tokenizer files of the model into its folder"
            if path.is_dir()
            else "export the model again, from a folder with a tokenizer",
        )
    model: Any = StoredTeacher(path, dtype, section.quantize or AS_STORED)
    if section.cache is None:
        model = model.load()
    return LoadedTeacher(name, section, path, model, load_tokenizer(path), Vocabulary("different"))


def _check_kind(section: TeacherConfig, name: str, path: Path) -> None:
    kind = _kind(path)
    if section.format not in ("auto", kind):
        raise ConfigError(
            f"{path}: the {name} is in the format {kind}, and teacher.format is {section.format}",
            hint="leave teacher.format out: what there is decides",
        )
    if section.revision is not None and path.is_file():
        raise ConfigError(
            f"{path}: is a file, which has no revision {section.revision!a}",
            hint="leave teacher.revision out: it belongs to a model on the hub",
        )


def _kind(path: Path) -> str:
    if is_gguf(path):
        return "gguf"
    if is_apr(path):
        return "apr"
    return "safetensors" if any(path.glob("*.safetensors")) else "pytorch"


def teacher_of(
    teachers: Sequence[LoadedTeacher], routes: Routes | None, documents: TokenizedDocuments
) -> Teacher:
    """Who a student is told by: the one teacher, all of them mixed, or each about documents of its
    own, which batches number as `documents` do."""
    live = [LiveTeacher(each.model, shared=each.vocabulary.shared) for each in teachers]
    if len(live) == 1:
        return live[0]
    if routes is not None:
        return RoutedTeacher(live, routes.of(documents))
    return MixedTeacher(live, shares(teachers))


TOGETHER = "teachers"
"""What reports call several teachers as one."""


def named_models(teachers: Sequence[LoadedTeacher], routes: Routes | None) -> dict[str, Any]:
    """What is measured of the teachers, by name; the first one is what the student is compared
    with: the teacher, all of them as one where they are mixed, else the first of them."""
    found = {each.name: loaded(each.model) for each in teachers}
    if len(teachers) == 1 or routes is not None:
        return found
    return {TOGETHER: Blend(tuple(found.values()), tuple(shares(teachers))), **found}


def shares(teachers: Sequence[LoadedTeacher]) -> list[float]:
    """The weight of each teacher in the mixture; equal ones where the config gives none."""
    return [each.section.weight or 1 / len(teachers) for each in teachers]


def in_words(teachers: Sequence[LoadedTeacher]) -> str:
    """The teachers in a line, with their weights or routes."""
    if len(teachers) == 1:
        return teachers[0].section.model_id
    if any(each.section.route for each in teachers):
        parts = [", ".join(each.section.route or ["all others"]) for each in teachers]
    else:
        parts = [f"{share:g}" for share in shares(teachers)]
    return "; ".join(
        f"{each.section.model_id} ({part})" for each, part in zip(teachers, parts, strict=True)
    )


def vocabularies(teachers: Sequence[LoadedTeacher]) -> tuple[str, ...]:
    """How the ids of each teacher are related to the student's, in words."""
    if len(teachers) == 1:
        return (str(teachers[0].vocabulary),)
    return tuple(f"{each.name}: {each.vocabulary}" for each in teachers)
