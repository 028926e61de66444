"""A merge that is ready to be done: its models open, its tensors planned, its tokens chosen."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.text import escape_controls
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.closing import Closing
from entrenar_core.merge.chat import with_chat_template
from entrenar_core.merge.config import MergeConfig
from entrenar_core.merge.elected import whole_model
from entrenar_core.merge.group import WORKING, Cast, Group, Rows, Whole, working_type
from entrenar_core.merge.inputs import MAPPED, Input, StoredRows, open_inputs
from entrenar_core.merge.memory import Forecast, Need, forecast
from entrenar_core.merge.method import method_named
from entrenar_core.merge.plan import plan
from entrenar_core.merge.planned import PlannedTensor, Source
from entrenar_core.merge.report import Observed
from entrenar_core.merge.tensor import MergedTensor
from entrenar_core.merge.token_choice import ModelKey
from entrenar_core.merge.tokens import ModelTokens, merged_tokens
from entrenar_core.merge.vocabulary import Vocabulary

TOKENIZER = "tokenizer.json"


class Job(Closing):
    """What `config` describes, checked; `tensors` makes the result, `raw` are the keys of its
    config.json.

    `observed` fills with what is measured of each tensor that was made. `forecast` says how much
    memory it takes, at most `memory_limit` bytes if that is given.

    Raises what is wrong: with the models, with their tensors together, with the tokens.
    """

    def __init__(
        self,
        config: MergeConfig,
        *,
        seed: int = 0,
        memory_limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config, self.seed = config, seed
        self.progress = progress or NullProgress()
        self.observed: dict[str, Observed] = {}
        self._stack = ExitStack()
        try:
            self.inputs = open_inputs(config.models, self._stack)
            # to the checker a cached_property is no property of a protocol
            self.plan = plan(config, self.inputs)  # pyright: ignore[reportArgumentType]
            self.vocabulary = self._vocabulary()
            self.tokenizer = self._tokenizer()
            self.tensors = Tensors(self)
            self.raw = self._config()
            self.forecast: Forecast = forecast(map(self._need, self.plan.tensors), memory_limit)
        except BaseException:
            self._stack.close()
            raise

    @property
    def donor(self) -> Input:
        """The model that gives the result its config and its other files."""
        return self.inputs[self.config.models[0]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        found = list(self.plan.notes)
        if self.vocabulary is not None:
            found += [*self.vocabulary.tokens.notes, *self.vocabulary.notes]
        return (*found, *self._other_tokens(), *self._without_effect())

    def _other_tokens(self) -> Iterator[str]:
        """Models whose tokens are not those of the result, where nothing is said about tokens."""
        own = self.donor.path / TOKENIZER
        if self.vocabulary is not None or not own.is_file():
            return
        content = own.read_bytes()
        for ref in self.config.models:
            other = self.inputs[ref].path / TOKENIZER
            if not other.is_file() or other.read_bytes() == content:
                continue
            if not load_tokenizer(own.parent).same_as(load_tokenizer(other.parent)):
                yield (
                    f"{ref} has other tokens than {self.donor.ref}, whose tokenizer the result "
                    "gets: with tokenizer_source rows are brought in one order"
                )

    def _without_effect(self) -> Iterator[str]:
        """Parameters that are given and are mergekit's alone, where its semantics are not asked
        for."""
        asked = {str(t.shared.get("semantics", "mergekit")) for t in self.plan.tensors}
        config = self.config
        levels = [
            config.parameters,
            config.module_parameters,
            *(s.parameters for s in config.slices),
        ]
        given = {name for level in levels for name in level}
        for name in ("normalize", "rescale"):
            used = name == "normalize" and config.method.name == "dare_linear"
            if name in given and not used and asked & {"paper", "peft"}:
                yield f"{name} is mergekit's, and has no effect with semantics: {min(asked)}"

    def _vocabulary(self) -> Vocabulary | None:
        choice = self.config.tokenizer
        if choice is None:
            return None
        models: dict[ModelKey, ModelTokens] = {
            ref: _tokens(self.inputs[ref]) for ref in self.config.models
        }
        tokens = merged_tokens(models, choice, base=self.config.base)
        return Vocabulary(tokens, choice, self.config.base)

    def _tokenizer(self) -> Tokenizer | None:
        """Where it is another one than the donor's."""
        template = self.config.chat_template
        if self.vocabulary is None and template is None:
            return None
        if self.vocabulary is not None:
            found = self.vocabulary.tokens.tokenizer
        elif has_tokenizer(self.donor.path):
            found = load_tokenizer(self.donor.path)
        else:
            raise ConfigError(
                f"{self.donor.ref} has no tokenizer to give a chat template to",
                hint="leave chat_template out, or add its tokenizer.json",
            )
        paths = [self.inputs[ref].path for ref in self.config.models]
        models = (load_tokenizer(path) for path in paths if has_tokenizer(path))
        return with_chat_template(found, template, models=models)

    def _config(self) -> dict[str, Any]:
        """The config.json of the result."""
        found = dict(self.donor.raw)
        for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
            if key in found:
                found[key] = self.plan.layers
        if "layer_types" in found:
            found["layer_types"] = self._layer_types(found["layer_types"])
        if self.vocabulary is not None and "vocab_size" in found:
            found["vocab_size"] = self.vocabulary.size
        names = {tensor.name for tensor in self.plan.tensors}
        if "lm_head.weight" in names:
            found["tie_word_embeddings"] = False
        dtypes = {self.tensors[name].dtype.name for name in names} & WORKING.keys()
        if found and len(dtypes) == 1:
            keys = [key for key in ("dtype", "torch_dtype") if key in found]
            found |= dict.fromkeys(keys or ["dtype"], dtypes.pop())
        return found

    def _layer_types(self, types: list[Any]) -> list[Any]:
        if self.plan.layers == len(types):
            return types
        if len(set(types)) > 1:
            raise ConfigError(
                f"{self.donor.ref} has layers of {len(set(types))} types, and layers were put "
                "together anew",
                hint="models whose layers are all of one type can be stacked",
            )
        return types[:1] * self.plan.layers

    def group(self, tensor: PlannedTensor) -> Group:
        """What a tensor of the result is made of."""
        found = self._group(tensor)
        if tensor.is_copied or tensor.shared.get("semantics") != "paper":
            return found
        return replace(found, whole=self._whole) if self.config.method.name == "ties" else found

    def _group(self, tensor: PlannedTensor) -> Group:
        rows = {source: self._rows(source) for source in tensor.inputs}
        if tensor.is_vocabulary and self.vocabulary is not None:
            by_model: dict[ModelKey, Rows] = {s.model: held for s, held in rows.items()}
            aligned = self.vocabulary.aligned(by_model)
            rows = {source: aligned[source.model] for source in rows}
        return Group(
            models=[rows[source] for source in tensor.models],
            base=None if tensor.base is None else rows[tensor.base],
            work=self.work(tensor),
            labels=[str(source.model) for source in tensor.models],
            base_label=str(tensor.base.model) if tensor.base else "",
            key=tensor.name,
            seed=self.seed,
            elements=self.forecast.elements,
        )

    @cached_property
    def _whole(self) -> Whole:
        """What is decided for whole models, where the method is TIES as its paper has it."""
        mixed = [t for t in self.plan.tensors if not t.is_copied and self.tensors[t.name].is_number]
        densities = {tensor.per_model["density"] for tensor in mixed}
        if len(densities) != 1 or len({tensor.models_named for tensor in mixed}) != 1:
            raise ConfigError(
                "ties as the paper has it trims whole models, and density or the models differ "
                "between tensors",
                hint="give one density for each model, or semantics: mergekit",
            )
        return whole_model([self._group(tensor) for tensor in mixed], densities.pop())

    def _rows(self, source: Source) -> Rows:
        rows = StoredRows(self.inputs[source.model], source.name)
        if self.config.dtype is None or rows.dtype == WORKING[self.config.dtype]:
            return rows
        return Cast(rows, WORKING[self.config.dtype])

    def types(self, tensor: PlannedTensor) -> list[np.dtype]:
        """What the inputs of a tensor are stored in."""
        return [self.inputs[source.model].type_of(source.name) for source in tensor.inputs]

    def work(self, tensor: PlannedTensor) -> np.dtype:
        """The type that a tensor is merged in."""
        return WORKING[self.config.dtype] if self.config.dtype else working_type(self.types(tensor))

    def shape(self, tensor: PlannedTensor) -> tuple[int, ...]:
        """The shape of a tensor of the result."""
        first = tensor.inputs[0]
        shape = self.inputs[first.model].shape(first.name)
        if tensor.is_vocabulary and self.vocabulary is not None:
            return (self.vocabulary.size, *shape[1:])
        return shape

    def _need(self, tensor: PlannedTensor) -> Need:
        shape, whole, mapped = self.shape(tensor), 0.0, 0
        for source in tensor.inputs:
            model = self.inputs[source.model]
            size = prod(model.shape(source.name)) * model.type_of(source.name).itemsize
            if model.is_mapped:
                mapped += min(size, 2 * MAPPED)
            else:
                whole += 2 * size  # one while it is read, one as it was stored
        whole += self.config.method.keeps * prod(shape)
        return Need(len(tensor.inputs), shape[-1] if shape else 1, int(whole), mapped)

    def close(self) -> None:
        """Closes the models."""
        self._stack.close()


def _tokens(model: Input) -> ModelTokens:
    tables = [model.shape(name)[0] for name in model.vocabulary if len(model.shape(name)) == 2]
    if not tables:
        raise ConfigError(f"{model.ref} has no table of tokens", hint="leave tokenizer_source out")
    tokenizer = load_tokenizer(model.path) if has_tokenizer(model.path) else None
    return ModelTokens(tokenizer, min(tables))


class Tensors(Mapping[str, "JobTensor"]):
    """The tensors of the result by name, in their order; each is made when it is written."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._planned = {tensor.name: tensor for tensor in job.plan.tensors}

    def __getitem__(self, name: str) -> "JobTensor":
        return JobTensor(self._job, self._planned[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._planned)

    def __len__(self) -> int:
        return len(self._planned)


@dataclass(frozen=True, eq=False)
class JobTensor:
    """A tensor of the result; see `io.streamed`."""

    job: Job
    planned: PlannedTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.job.shape(self.planned)

    @property
    def is_number(self) -> bool:
        """Whether it is of floats, which are merged; others are copied."""
        return all(kind.name in WORKING for kind in self.job.types(self.planned))

    @property
    def dtype(self) -> np.dtype:
        config = self.job.config
        if not self.is_number:
            return self.job.types(self.planned)[0]
        return WORKING[config.out_dtype] if config.out_dtype else self.job.work(self.planned)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        """Its rows in order. Raises NumericsError where something is not finite, and ConfigError
        for whole numbers that models do not agree on."""
        yield from self._merged() if self.is_number else self._copied()
        self.job.progress.advance()

    def _merged(self) -> Iterator[np.ndarray]:
        job, planned = self.job, self.planned
        method, settings = job.config.method, planned.settings
        if planned.is_copied:
            method, settings = method_named("passthrough"), {"scale": (None,)}
        group = job.group(planned)
        if planned.is_copied and group.base is not None:
            group = replace(group, models=[group.base], base=None, labels=[group.base_label])

        def observe(products: np.ndarray, conflicts: int) -> None:
            job.observed[planned.name] = Observed(
                products, conflicts, prod(self.shape), group.base is not None
            )

        return MergedTensor(method, group, settings, self.dtype, observe).pieces()

    def _copied(self) -> Iterator[np.ndarray]:
        first, *others = (
            self.job.inputs[source.model].read(source.name) for source in self.planned.inputs
        )
        for source, other in zip(self.planned.inputs[1:], others, strict=True):
            if first.dtype != other.dtype or not np.array_equal(first, other):
                raise ConfigError(
                    f"{escape_controls(self.planned.name)} is no tensor of floats, and differs in "
                    f"{source.model}",
                    hint="models that differ in it cannot be merged",
                )
        yield first

    def array(self) -> np.ndarray:
        """All of it."""
        return np.concatenate([p.reshape(-1) for p in self.pieces()]).reshape(self.shape)
