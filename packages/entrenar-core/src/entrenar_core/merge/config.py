"""mergekit's configs of a merge: which models, layer by layer, by which method, with what settings.

The file is YAML, as mergekit's own. `models:` merges all layers, `slices:` puts ranges of layers
one after another, and `modules:` holds either for a model's one module, `default`. What would
change nothing there is noted; what makes no sense is a problem, and all are reported together.
Format: https://github.com/arcee-ai/mergekit, `docs/` and `mergekit/config.py`.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.io.yaml_file import KeyPath, Located, read_yaml
from entrenar_core.merge.counts import counted_base, wrong_count
from entrenar_core.merge.group import WORKING
from entrenar_core.merge.method import Method, method_named
from entrenar_core.merge.parameters import ParameterReader
from entrenar_core.merge.problems import Problems, shown
from entrenar_core.merge.reference import ModelRef, read_reference
from entrenar_core.merge.settings import Settings
from entrenar_core.merge.slices import OutputSlice, SliceReader
from entrenar_core.merge.token_choice import TokenizerChoice
from entrenar_core.merge.tokenizer_config import choice_models, read_tokenizer

KEYS = (
    "merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype",
    "out_dtype", "tokenizer_source", "tokenizer", "chat_template", "name",
)  # fmt: skip
"""Of a config. `name` is one of mergekit's files of several merges, and says nothing of its own."""


@dataclass(frozen=True)
class MergeConfig:
    """A merge. `slices` make the layers of the result, one after another; their models are the
    inputs of `method`, the base among them. `module_parameters` count more than `parameters`, and
    less than those of the slices. `dtype` is what tensors are merged in, `out_dtype` what they are
    written in, each as they are where it is None. `notes` say what in the file has no effect."""

    method: Method
    base: ModelRef | None
    slices: tuple[OutputSlice, ...]
    module_parameters: Settings
    parameters: Settings
    dtype: str | None
    out_dtype: str | None
    tokenizer: TokenizerChoice | None
    chat_template: str | None
    located: Located
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """All that are needed, once each: the base, then as the config names them."""
        first = [self.base] if self.base is not None else []
        named = [source.model for part in self.slices for source in part.sources]
        return tuple(dict.fromkeys([*first, *named]))

    def base_of(self, part: OutputSlice) -> ModelRef | None:
        """The base of a slice, as far as the method has one."""
        return counted_base(self.method, part.base)

    def levels(self, part: OutputSlice, model: ModelRef | None) -> list[Settings]:
        """The settings that count in a slice for a model, or for what all share: nearest first."""
        own = [source.parameters for source in part.sources if source.model == model]
        return [*own, part.parameters, self.module_parameters, self.parameters]


def read_merge_config(path: str | os.PathLike[str]) -> MergeConfig:
    """The merge that the YAML file at `path` describes.

    Raises what `read_yaml` does, and ConfigError or UnsupportedError as `parse_merge_config`.
    """
    try:
        located = read_yaml(path)
    except ConfigError as error:
        if "single document" not in error.message:
            raise
        raise ConfigError(
            error.message,
            hint="a file holds one merge: write each document to a file of its own, and merge "
            "them in turn",
        ) from error
    return parse_merge_config(located)


def parse_merge_config(located: Located) -> MergeConfig:
    """The merge that the data of a config describes.

    Raises ConfigError that says all that is wrong, each with its line, and UnsupportedError where
    all of that makes sense to mergekit.
    """
    problems = Problems(located)
    keys = problems.section(located.data, (), KEYS)
    method = _method(keys, problems)
    if method is None:
        problems.raise_any()
    assert method is not None
    parameters = ParameterReader(method, problems)
    base = _reference(keys, "base_model", problems)
    reader = SliceReader(base, problems, parameters)
    slices, module_parameters = _slices(keys, reader)
    config = MergeConfig(
        method=method,
        base=base,
        slices=slices,
        module_parameters=module_parameters,
        parameters=parameters.of_all(keys.get("parameters"), ("parameters",)),
        dtype=_dtype(keys, "dtype", problems),
        out_dtype=_dtype(keys, "out_dtype", problems),
        tokenizer=read_tokenizer(keys, problems),
        chat_template=_template(keys, problems),
        located=located,
    )
    if "name" in keys:
        parameters.note(("name",), "name has no effect")
    if base is not None or "base_model" not in keys:
        _check_counts(config, problems)
    _check_tokens(config, problems)
    if config.tokenizer and config.tokenizer.source == "base" and not base and config.models:
        key = "tokenizer" if "tokenizer" in keys else "tokenizer_source"
        parameters.note((key,), f"with no base_model, {config.models[0]} gives the tokenizer")
    problems.raise_any()
    return replace(config, notes=tuple(parameters.notes))


def _method(keys: dict[str, Any], problems: Problems) -> Method | None:
    path = ("merge_method",)
    if "merge_method" not in keys:
        problems.add(path, "is missing", hint="say how to merge, such as merge_method: linear")
        return None
    name = problems.text(keys["merge_method"], path)
    try:
        return method_named(name) if name else None
    except ConfigError as error:
        problems.add(path, error.message, hint=error.hint)
        return None


def _reference(keys: dict[str, Any], key: str, problems: Problems) -> ModelRef | None:
    return read_reference(keys[key], (key,), problems) if key in keys else None


def _slices(keys: dict[str, Any], reader: SliceReader) -> tuple[tuple[OutputSlice, ...], Settings]:
    """The slices of the result, and what is given for the module."""
    given = [key for key in ("models", "slices", "modules") if key in keys]
    if len(given) != 1:
        if given:
            reader.problems.add((given[1],), f"is given besides {given[0]}", hint=_ONE)
        else:
            reader.problems.add((), "it names no models", hint=_ONE)
        return (), {}
    if given != ["modules"]:
        return reader.read(keys, ()), {}
    return _module(keys["modules"], reader)


_ONE = "give one of models, slices and modules"


def _module(value: Any, reader: SliceReader) -> tuple[tuple[OutputSlice, ...], Settings]:
    path: KeyPath = ("modules", "default")
    modules = reader.problems.section(value, ("modules",), ("default",))
    if "default" not in modules:
        if not modules and value == {}:
            reader.problems.add(("modules",), "has no module default")
        return (), {}
    keys = reader.problems.section(modules["default"], path, ("models", "slices", "parameters"))
    parameters = reader.parameters.of_all(keys.get("parameters"), (*path, "parameters"))
    if ("models" in keys) == ("slices" in keys):
        reader.problems.add(path, "must have either models or slices")
        return (), parameters
    return reader.read(keys, path), parameters


def _dtype(keys: dict[str, Any], key: str, problems: Problems) -> str | None:
    if key not in keys:
        return None
    value = keys[key]
    name = value.removeprefix("torch.") if isinstance(value, str) else None
    if name not in WORKING:
        problems.add((key,), f"must be one of {', '.join(WORKING)}, not {shown(value)}")
        return None
    return name


def _template(keys: dict[str, Any], problems: Problems) -> str | None:
    if "chat_template" not in keys:
        return None
    return problems.text(keys["chat_template"], ("chat_template",))


def _check_counts(config: MergeConfig, problems: Problems) -> None:
    for part in config.slices:
        named = [source.model for source in part.sources]
        wrong = wrong_count(config.method, named, part.base) if part.is_whole else None
        if wrong:
            problems.add(part.path, wrong)


def _check_tokens(config: MergeConfig, problems: Problems) -> None:
    if config.tokenizer is None:
        return
    for token, rule in config.tokenizer.tokens.items():
        for model in choice_models(TokenizerChoice("union", {token: rule})):
            if config.slices and model not in config.models:
                problems.add(
                    ("tokenizer", "tokens", token, "source"),
                    f"{model} is none of the models that are merged",
                )
