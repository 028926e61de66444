"""What a command line of a tool reads and writes: the paths in its options and configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_common.errors import EntrenarError
from entrenar_shell.arguments import take_apart
from entrenar_shell.command import PlainLine
from entrenar_shell.tools import tool

if TYPE_CHECKING:
    from entrenar_core.data.sources import DatasetSpec
    from entrenar_core.train.declarative import TrainSpec
    from entrenar_distill.config import DistillConfig

__all__ = ["read_and_written"]

_WRITTEN = ("output", "study", "trace")
_READ = (
    "model", "models", "a", "b", "base", "tuned", "source", "teacher", "student", "adapter",
    "adapters", "other", "config", "results",
)  # fmt: skip
_TEXT = ("data", "generate", "calibrate", "eval_data")
"""Parameters of tools by their names: what is written, what is read, and what may be a pattern."""

Typed = Mapping[str, Sequence[str]]


def read_and_written(lines: Sequence[PlainLine]) -> tuple[list[Path], list[Path]]:
    """The paths that command lines which succeeded have read, and those they have written, in
    full, each once. What a line wrote and a later one read is only written."""
    read: dict[Path, None] = {}
    written: dict[Path, None] = {}
    for line in lines:
        typed = _typed(line)
        if any(flag in typed for flag in ("dry_run", "validate", "find_rate")):
            continue
        for path in _of_options(typed, _WRITTEN):
            written[path] = None
        for path in (*_of_options(typed, _READ), *_of_texts(typed)):
            read[path] = None
        for path, writes in _of_configuration(line, typed):
            (written if writes else read)[path] = None
    return [path for path in read if path not in written], list(written)


def _typed(line: PlainLine) -> dict[str, list[str]]:
    """The values of a line by the names of the parameters; a flag has none."""
    found: dict[str, list[str]] = {}
    for each in take_apart(tool(line[0]).commands[line[1]], line[2:]):
        values = found.setdefault(str(each.param.name), [])
        if each.value is not None:
            values.append(str(each.value))
    return found


def _of_options(typed: Typed, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for value in typed.get(name, ()):
            yield from _existing(value)


def _existing(value: str) -> Iterator[Path]:
    path = Path(value).expanduser()
    if value and path.exists():  # a name on the hub does not
        yield path.absolute()


def _of_texts(typed: Typed) -> Iterator[Path]:
    from entrenar_core.data.sources import DatasetSpec

    for name in _TEXT:
        if typed.get(name):
            yield from _files(DatasetSpec(tuple(typed[name])))


def _files(spec: DatasetSpec) -> list[Path]:
    from entrenar_core.data.sources import SourceFile, list_files

    try:
        sources = list_files(spec) if spec.hub is None else []
    except EntrenarError:  # it was there when the command read it
        return []
    return [source.path for source in sources if isinstance(source, SourceFile)]


def _of_configuration(line: PlainLine, typed: Typed) -> Iterator[tuple[Path, bool]]:
    """The paths in the configuration of a training, and whether they are written."""
    find = _CONFIGURATIONS.get(line[:2])
    if find is None:
        return
    config = next(iter(typed.get("config", ())), None)
    pairs = [
        (key, value) for key, _, value in (v.partition("=") for v in typed.get("overrides", ()))
    ]
    given = {
        name: next(iter(typed.get(name, ())), None) for name in ("teacher", "student", "output")
    }
    written, read, texts = find(config, pairs, given)
    yield from ((path, True) for path in _existing(written))
    for value in read:
        yield from ((path, False) for path in _existing(value or ""))
    yield from ((path, False) for spec in texts for path in _files(spec))


Found = tuple[str, list[str | None], "list[DatasetSpec]"]


def _distillation(
    config: str | None, pairs: list[tuple[str, str]], given: Mapping[str, str | None]
) -> Found:
    from entrenar_distill.config import resolve
    from entrenar_distill.inputs import dataset_spec

    found: DistillConfig = resolve(
        config, teacher=given["teacher"], student=given["student"], output=given["output"],
        overrides=pairs,
    )  # fmt: skip
    models = [path for teacher in found.teachers for path in (teacher.model_id, teacher.cache)]
    models += [found.student.model_id, found.student.tokenizer]
    return found.output.dir, models, [dataset_spec(found.dataset)]


def _training(
    config: str | None, pairs: list[tuple[str, str]], given: Mapping[str, str | None]
) -> Found:
    from entrenar_core.data.sources import DatasetSpec
    from entrenar_core.train.declarative import resolve

    found: TrainSpec = resolve(config, pairs, output=given["output"])
    models = [found.model.path, found.model.tokenizer]
    if found.merge is not None:
        models += [*found.merge.models, found.merge.base]
    data = found.data
    texts = [DatasetSpec(paths, format=data.format) for paths in (data.train, data.val) if paths]
    return found.output.dir, models, texts


_CONFIGURATIONS: dict[PlainLine, Callable[..., Found]] = {
    ("entrenar-distill", "run"): _distillation,
    ("entrenar-distill", "train"): _training,
}
