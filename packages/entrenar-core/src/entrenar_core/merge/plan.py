"""Which tensors of which models are mixed into which of the result, and with what settings.

Before the layers the models and the settings of the first slice count, after them those of the
last; for both, what changes over the layers of a slice is at its start. Rules:
https://github.com/arcee-ai/mergekit, `mergekit/plan.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from entrenar_common.text import escape_controls
from entrenar_core.merge.config import MergeConfig
from entrenar_core.merge.counts import wrong_count
from entrenar_core.merge.method import Method
from entrenar_core.merge.misfits import ARCHITECTURES, Misfits
from entrenar_core.merge.places import Part, Place, by_place, in_layer, is_optional, place_of
from entrenar_core.merge.planned import ModelTensors, Plan, PlannedTensor, Shapes, Source
from entrenar_core.merge.problems import Problems
from entrenar_core.merge.reference import ModelRef
from entrenar_core.merge.settings import Named, resolve
from entrenar_core.merge.slices import OutputSlice, SliceSource

__all__ = ["ModelTensors", "Plan", "PlannedTensor", "Shapes", "Source", "plan"]


def plan(config: MergeConfig, shapes: Shapes) -> Plan:
    """What is to be done to merge the models of `shapes`, which has all of `config.models`.

    Raises ConfigError for layers that a model does not have, for a parameter without a value, and
    for tensors that do not fit together, all of them named.
    """
    _check_layers(config, shapes)
    return _Planner(config, shapes).plan()


def _check_layers(config: MergeConfig, shapes: Shapes) -> None:
    problems = Problems(config.located)
    for part in config.slices:
        for source in part.sources:
            count = shapes[source.model].layers
            if source.layers and source.layers[1] > count:
                problems.add(
                    (*source.path, "layer_range"),
                    f"it ends at {source.layers[1]}, and {source.model} has {count} layers",
                    hint="its second number is 1 more than the last layer's, which is counted "
                    "from 0",
                )
        counts = {s.model: shapes[s.model].layers for s in part.sources if not s.layers}
        if len(set(counts.values())) > 1:
            types = {model: shapes[model].model_type for model in counts}
            foreign = len(set(types.values())) > 1
            each = (
                f"{model} has {count}" + (f" and is {types[model]}" if foreign else "")
                for model, count in counts.items()
            )
            problems.add(
                part.path,
                f"the models are not of one number of layers: {', '.join(each)}",
                hint=ARCHITECTURES if foreign else "say with slices: which layers are merged",
            )
    problems.raise_any()


@dataclass
class _Input:
    """A source of a slice with its model's tensors by place, stored ones and those that are only
    another name of one."""

    source: SliceSource
    tensors: ModelTensors
    stored: Mapping[Place, str]
    tied: Mapping[Place, str]

    @property
    def model(self) -> ModelRef:
        return self.source.model

    @property
    def layers(self) -> tuple[int, int]:
        return self.source.layers or (0, self.tensors.layers)

    def rests(self, part: Part, layer: int | None) -> list[str]:
        """What it stores there, in its order."""
        return [p.rest for p in self.stored if p.part == part and p.layer == layer]


@dataclass
class _Found:
    """What the inputs of a slice have for one tensor: `name` is that of the result, `named` what
    filters look at. The base is among the sources."""

    name: str
    sources: list[Source]
    named: list[Named]
    lacking: list[ModelRef]
    is_vocabulary: bool


class _Planner:
    """Plans slice by slice; what does not fit is collected on the way."""

    def __init__(self, config: MergeConfig, shapes: Shapes) -> None:
        self.config = config
        self.shapes = shapes
        self.misfits = Misfits(shapes, rows_may_differ=config.tokenizer is not None)
        self.notes = list(config.notes)
        self.tensors: list[PlannedTensor] = []
        self.stored = {model: by_place(shapes[model].names()) for model in config.models}

    def plan(self) -> Plan:
        """All tensors, in the order of the result's layers."""
        slices = self.config.slices
        self.misfits.compare_types(self.config.models)
        self._outside(slices[0], "before")
        done = 0
        for part in slices:
            done += self._layers(part, done)
        self._outside(slices[-1], "after")
        self.misfits.raise_any()
        return Plan(tuple(self.tensors), done, tuple(self.notes))

    def _inputs(self, part: OutputSlice) -> list[_Input]:
        """The sources of a slice; the first, the base if there is one, names the tensors."""
        ordered = sorted(part.sources, key=lambda source: source.model != part.base)
        return [self._input(source) for source in ordered]

    def _input(self, source: SliceSource) -> _Input:
        tensors, stored = self.shapes[source.model], self.stored[source.model]
        tied = {place_of(name): other for name, other in tensors.tied.items()}
        return _Input(source, tensors, stored, tied)

    def _outside(self, part: OutputSlice, where: Part) -> None:
        """The tensors before or after all layers."""
        inputs = self._inputs(part)
        for rest in dict.fromkeys(rest for one in inputs for rest in one.rests(where, None)):
            found = _find(inputs, [Place(where, None, rest)] * len(inputs), result=None)
            if found.is_vocabulary:
                source = found.sources[0]
                self.misfits.compare_result("tokens", source, is_vocabulary=True)
            self._tensor(part, found, t=0.0)

    def _layers(self, part: OutputSlice, done: int) -> int:
        """The layers of a slice, from the result's `done` on; returns how many they are."""
        inputs = self._inputs(part)
        start, end = inputs[0].layers
        count = end - start
        for index in range(count):
            numbers = [one.layers[0] + index for one in inputs]
            both = zip(inputs, numbers, strict=True)
            rests = dict.fromkeys(r for one, layer in both for r in one.rests("layers", layer))
            for rest in rests:
                places = [Place("layers", layer, rest) for layer in numbers]
                found = _find(inputs, places, result=done + index)
                self.misfits.compare_result(rest, found.sources[0], is_vocabulary=False)
                self._tensor(part, found, t=index / (count - 1) if count > 1 else 1.0)
        return count

    def _tensor(self, part: OutputSlice, found: _Found, *, t: float) -> None:
        """One tensor of the result, as far as there is what it takes."""
        base = self.config.base_of(part)
        self.misfits.compare(found.name, found.sources, is_vocabulary=found.is_vocabulary)
        todo = _todo(self.config.method, found, base)
        if todo == "error":
            self.misfits.lacking(found.name, [s.model for s in found.sources], found.lacking)
        elif todo == "skip":
            lack = ", ".join(str(model) for model in found.lacking)
            self.notes.append(escape_controls(f"{found.name} is left out: not in {lack}"))
        elif todo == "copy":
            copied, vocabulary = tuple(found.sources), found.is_vocabulary
            self.tensors.append(
                PlannedTensor(found.name, None, copied, is_vocabulary=vocabulary, is_copied=True)
            )
        else:
            self.tensors.append(self._merged(part, found, t=t))

    def _merged(self, part: OutputSlice, found: _Found, *, t: float) -> PlannedTensor:
        base = self.config.base_of(part)
        method = self.config.method
        resolved = resolve(
            method,
            lambda model: self.config.levels(part, model),
            name=found.name,
            inputs=found.named,
            base=base,
            t=t,
        )
        own = next((source for source in found.sources if source.model == base), None)
        models = [source for source in found.sources if source.model != base]
        if method.symmetric:
            models.sort(key=lambda source: source.model)
        inputs = ([own] if own else []) + models

        def aligned(scope: str, sources: Sequence[Source]) -> dict[str, tuple[Any, ...]]:
            names = [p.name for p in method.parameters.values() if p.scope == scope]
            return {n: tuple(resolved.each[s.model][n] for s in sources) for n in names}

        return PlannedTensor(
            name=found.name,
            base=own,
            models=tuple(models),
            shared=resolved.shared,
            per_model=aligned("models", models),
            per_input=aligned("inputs", inputs),
            is_vocabulary=found.is_vocabulary,
        )


def _find(inputs: Sequence[_Input], places: Sequence[Place], *, result: int | None) -> _Found:
    """What each input has at its place, at least one of them a stored tensor of that name."""
    both = list(zip(inputs, places, strict=True))
    name = next(one.stored[place] for one, place in both if place in one.stored)
    found = _Found(in_layer(name, result), [], [], [], False)
    for one, place in both:
        stored = one.stored.get(place) or one.tied.get(place)
        if stored is None:
            found.lacking.append(one.model)
            continue
        found.sources.append(Source(one.model, stored))
        label = one.stored.get(place) or in_layer(name, place.layer)
        found.named.append(Named(one.model, label))
        found.is_vocabulary |= stored in one.tensors.vocabulary
    return found


def _todo(
    method: Method, found: _Found, base: ModelRef | None
) -> Literal["merge", "copy", "skip", "error"]:
    """What becomes of a tensor that some inputs may lack."""
    if not found.lacking:
        return "merge"
    if not is_optional(found.name):
        return "error"
    models = [source.model for source in found.sources]
    if len(models) == 1 and (
        method.lone == "any" or (method.lone in ("base", "base or skip") and models[0] == base)
    ):
        return "copy"
    if method.lone == "base or skip" and len(models) < method.inputs[0]:
        return "skip"
    return "error" if wrong_count(method, models, base) else "merge"
