"""Everything about a configuration that can be checked before anything is trained."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Text
from entrenar_distill.check import Check, Status, count, lines_of, wrapped
from entrenar_distill.config import DistillConfig, resolve
from entrenar_distill.task_names import CAUSAL_LM

Overrides = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Validation:
    """What a validation says.

    config: the file; valid: whether nothing is wrong; problems, warnings and unchecked: how many
    checks ended so; self_checks: those of the loss, None where they were not asked for.
    """

    config: str
    valid: bool
    problems: int
    warnings: int
    unchecked: int
    checks: tuple[Check, ...]
    self_checks: tuple[Check, ...] | None


@dataclass(frozen=True)
class Shown:
    """A validation as it is printed, with the marks of a terminal."""

    validation: Validation
    marks: Mapping[Status, str]

    def __view__(self) -> list[Any]:
        found = self.validation
        shown = [line for check in found.checks for line in lines_of(check, self.marks)]
        if found.self_checks is not None:
            shown.append(Text("\nSelf-check of the loss", "title"))
            shown += [line for check in found.self_checks for line in lines_of(check, self.marks)]
        return [*shown, self._summary()]

    def _summary(self) -> Text:
        found = self.validation
        status = Status.OK
        if found.problems or found.warnings:
            status = Status.PROBLEM if found.problems else Status.WARNING
        words, style = _SUMMARIES[status]
        counts = _counts(found)
        mark, text = f"{self.marks[status]} ", f"{found.config}: {words}{counts}"
        return Text("\n" + wrapped(mark, "  ", text), style)


_SUMMARIES = {
    Status.OK: ("nothing wrong found", "good"),
    Status.WARNING: ("can be run; look at the warnings", "warning"),
    Status.PROBLEM: ("cannot be run like this", "bad"),
}


def _counts(found: Validation) -> str:
    every = ((found.problems, "problem"), (found.warnings, "warning"))
    parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in every if n]
    parts += [f"{found.unchecked} not checked"] if found.unchecked else []
    return f": {', '.join(parts)}" if parts else ""


def validate(
    path: str | os.PathLike[str],
    *,
    overrides: Overrides = (),
    self_check: bool = False,
    progress: Progress | None = None,
) -> Validation:
    """Check what the configuration at `path` says, with `overrides` laid over it, and write nothing
    but the token cache.

    What is wrong is in the answer, and is no error. Raises NotFoundError where there is no such
    file, and StorageError where it cannot be read.
    """
    progress = progress or NullProgress()
    title = "configuration"
    try:
        config = resolve(path, overrides=overrides)
    except (ConfigError, FormatError, UnsupportedError) as error:
        why = "needs a configuration that can be read"
        left = (Check.skipped("self_check", "self-check", why),) if self_check else None
        return _validation(path, [Check.refused("configuration", title, error)], left)
    note = f"every key is known, and its value has a meaning ({len(overrides)} from --set)"
    return _checked(
        path, config, Check("configuration", title, Status.OK, note), self_check, progress
    )


def _checked(
    path: str | os.PathLike[str],
    config: DistillConfig,
    read: Check,
    self_check: bool,
    progress: Progress,
) -> Validation:
    from entrenar_distill.memory_check import memory_check
    from entrenar_distill.output_checks import output_checks
    from entrenar_distill.piece_checks import piece_checks
    from entrenar_distill.pieces import read_pieces
    from entrenar_distill.self_check_inputs import check_inputs

    pieces = read_pieces(config, progress=progress)
    checks = [
        read,
        *piece_checks(config, pieces),
        memory_check(config),
        *output_checks(config, pieces),
    ]
    tried = None
    if self_check:
        why = _out_of_reach(config, pieces.inputs)
        tried = (
            tuple(check_inputs(pieces.inputs, progress=progress))
            if why is None
            else (Check.skipped("self_check", "self-check", why),)
        )
    return _validation(path, checks, tried)


def _out_of_reach(config: DistillConfig, inputs: Any) -> str | None:
    """Why the loss cannot be checked; None where it can."""
    if inputs is None:
        return "needs all of what a run reads"
    if config.task != CAUSAL_LM:
        return f"the checks are about next tokens, and the task is {config.task}"
    if config.distillation.cross_tokenizer is not None:
        return "the checks compare positions, and a teacher with other tokens has none of them"
    return None


def _validation(
    path: str | os.PathLike[str], checks: Sequence[Check], tried: tuple[Check, ...] | None
) -> Validation:
    every = [*checks, *(tried or ())]
    problems, warnings, unchecked = (
        count(every, status) for status in (Status.PROBLEM, Status.WARNING, Status.SKIPPED)
    )
    return Validation(
        os.fspath(path), not problems, problems, warnings, unchecked, tuple(checks), tried
    )
