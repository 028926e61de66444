"""Which layers of which models are merged into which of the result's."""

from dataclasses import dataclass
from typing import Any

from entrenar_core.io.yaml_file import KeyPath
from entrenar_core.merge.parameters import ParameterReader
from entrenar_core.merge.problems import Problems, shown
from entrenar_core.merge.reference import ModelRef, read_reference
from entrenar_core.merge.settings import Settings


@dataclass(frozen=True)
class SliceSource:
    """Layers of a model, from the first number up to the second without it, or all where it is
    None; `path` is where the config says so."""

    model: ModelRef
    layers: tuple[int, int] | None
    parameters: Settings
    path: KeyPath


@dataclass(frozen=True)
class OutputSlice:
    """Layers of the result, made of as many layers of each of its sources. `base` is the model
    that the others are seen from, where the config names one. `is_whole`: everything in the config
    about it could be read."""

    sources: tuple[SliceSource, ...]
    base: ModelRef | None
    parameters: Settings
    path: KeyPath
    is_whole: bool = True


@dataclass
class SliceReader:
    """Reads `models` and `slices`; `base` is the config's."""

    base: ModelRef | None
    problems: Problems
    parameters: ParameterReader

    def read(self, keys: dict[str, Any], path: KeyPath) -> tuple[OutputSlice, ...]:
        """The slices that `models` or `slices` of a section describes."""
        if "models" in keys:
            return self._of_models(keys["models"], (*path, "models"))
        items = self.problems.items(keys["slices"], (*path, "slices"))
        return tuple(self._slice(item, place) for place, item in items)

    def _of_models(self, value: Any, path: KeyPath) -> tuple[OutputSlice, ...]:
        """One slice of all layers; the base is among its sources, if only to be seen from."""
        items = self.problems.items(value, path)
        read = [self._model(item, place) for place, item in items]
        sources = [source for source in read if source]
        is_whole = len(sources) == len(read) > 0
        if self.base is not None and all(source.model != self.base for source in sources):
            sources.append(SliceSource(self.base, None, {}, ("base_model",)))
        return (OutputSlice(tuple(sources), self.base, {}, path, is_whole),)

    def _model(self, value: Any, path: KeyPath) -> SliceSource | None:
        keys = self.problems.section(value, path, ("model", "parameters"))
        return self._source(keys, path, layers=None, base=self.base)

    def _slice(self, value: Any, path: KeyPath) -> OutputSlice:
        known = ("sources", "base_model", "parameters", "residual_weight")
        keys = self.problems.section(value, path, known)
        if "residual_weight" in keys:
            self.parameters.note((*path, "residual_weight"), "residual_weight has no effect")
        base = self.base
        if "base_model" in keys:
            base = read_reference(keys["base_model"], (*path, "base_model"), self.problems)
        items = []
        if "sources" in keys:
            items = self.problems.items(keys["sources"], (*path, "sources"))
        elif keys:
            self.problems.add((*path, "sources"), "is missing")
        read = [self._range(item, place, base) for place, item in items]
        sources = tuple(source for source in read if source)
        is_whole = len(sources) == len(read) > 0 and (base is not None or "base_model" not in keys)
        lengths = {end - start for start, end in (s.layers for s in sources if s.layers)}
        if is_whole and len(lengths) > 1:
            text = " and ".join(str(length) for length in sorted(lengths))
            self.problems.add((*path, "sources"), f"they are of {text} layers, not of as many each")
        given = self.parameters.of_all(keys.get("parameters"), (*path, "parameters"))
        return OutputSlice(sources, base, given, path, is_whole)

    def _range(self, value: Any, path: KeyPath, base: ModelRef | None) -> SliceSource | None:
        keys = self.problems.section(value, path, ("model", "layer_range", "parameters"))
        layers = self._layers(keys.get("layer_range"), (*path, "layer_range")) if keys else None
        source = self._source(keys, path, layers=layers, base=base)
        return source if layers else None

    def _layers(self, value: Any, path: KeyPath) -> tuple[int, int] | None:
        if value is None:
            self.problems.add(path, "is missing", hint=_RANGE)
            return None
        numbers = value if isinstance(value, list) else []
        whole = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
        if len(whole) != 2 or len(numbers) != 2:
            self.problems.add(path, f"must be two whole numbers, not {shown(value)}", hint=_RANGE)
            return None
        if whole[0] >= whole[1]:
            self.problems.add(path, f"no layer is from {whole[0]} up to {whole[1]}", hint=_RANGE)
            return None
        return whole[0], whole[1]

    def _source(
        self,
        keys: dict[str, Any],
        path: KeyPath,
        *,
        layers: tuple[int, int] | None,
        base: ModelRef | None,
    ) -> SliceSource | None:
        if "model" not in keys:
            if keys:
                self.problems.add((*path, "model"), "is missing")
            return None
        model = read_reference(keys["model"], (*path, "model"), self.problems)
        is_base = model is not None and model == base and self.parameters.method.base != "ignored"
        place = (*path, "parameters")
        given = self.parameters.of_model(keys.get("parameters"), place, is_base=is_base)
        return SliceSource(model, layers, given, path) if model else None


_RANGE = "layer_range: [0, 4] are the layers 0 to 3"
