"""Where the tensors of models do not fit together, collected and reported at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.merge.group import WORKING
from entrenar_core.merge.planned import Shapes, Source
from entrenar_core.merge.reference import ModelRef

MOST = 10
"""Of the misfits that an error shows."""

ARCHITECTURES = "merge models of one architecture"
_ROWS = (
    "give tokenizer_source: union, base or one of the models, so that the rows for tokens are "
    "brought in one order"
)
_OTHER = "merge models that were trained from one, or say with slices: which layers are merged"


@dataclass
class Misfits:
    """Those of the models of `shapes`. `rows_may_differ`: tensors with a row for each token are
    brought in one order of tokens before they are merged."""

    shapes: Shapes
    rows_may_differ: bool
    found: list[str] = field(default_factory=list)
    hints: set[str] = field(default_factory=set)
    _result: dict[str, tuple[Source, tuple[int, ...]]] = field(default_factory=dict)

    def compare_types(self, models: Sequence[ModelRef]) -> None:
        """Models of several architectures."""
        named = {model: self.shapes[model].model_type for model in models}
        types = {model: kind for model, kind in named.items() if kind}  # lone files have none
        if len(set(types.values())) > 1:
            each = (f"{model} is {kind}" for model, kind in types.items())
            self._add(f"architectures: {', '.join(each)}", ARCHITECTURES)

    def lacking(self, name: str, have: Sequence[ModelRef], lack: Sequence[ModelRef]) -> None:
        """A tensor that some models do not have."""
        self._add(f"{name}: {_listed(have)} {_have(have)} it, {_listed(lack)} not", _OTHER)

    def compare(self, name: str, sources: Sequence[Source], *, is_vocabulary: bool) -> None:
        """The shapes and types of the tensors that become the result's `name`."""
        kinds = {s.model: self.shapes[s.model].dtype(s.name) for s in sources}
        if other := {model: kind for model, kind in kinds.items() if kind not in WORKING}:
            each = ", ".join(f"{kind} in {model}" for model, kind in other.items())
            self._add(f"{name}: {each}", f"convert the model to {', '.join(WORKING)} first")
        shapes = {s.model: tuple(self.shapes[s.model].shape(s.name)) for s in sources}
        self._unequal(name, shapes, is_vocabulary=is_vocabulary)

    def compare_result(self, key: str, source: Source, *, is_vocabulary: bool) -> None:
        """A tensor of the result with another one that must have its shape, whichever models they
        are from: those of one `key` in all layers, or the numbers of tokens."""
        shape = tuple(self.shapes[source.model].shape(source.name))
        shape = shape[:1] if is_vocabulary else shape
        first, its = self._result.setdefault(key, (source, shape))
        if first.model != source.model and not (is_vocabulary and self.rows_may_differ):
            names = first.name if first.name == source.name else f"{first.name} and {source.name}"
            shapes = {first.model: its, source.model: shape}
            self._unequal(names, shapes, is_vocabulary=is_vocabulary)

    def raise_any(self) -> None:
        """Raises ConfigError where there are any."""
        if not self.found:
            return
        details = [escape_controls(text) for text in dict.fromkeys(self.found)]
        count = len(details)
        if count > MOST:
            details = [*details[:MOST], f"and {count - MOST} more"]
        places = "one place" if count == 1 else f"{count} places"
        order = [hint for hint in (ARCHITECTURES, _OTHER) if hint in self.hints]
        raise ConfigError(
            f"the models do not fit together in {places}",
            details=details,
            hint=[*order, *sorted(self.hints)][0],
        )

    def _unequal(
        self, name: str, shapes: Mapping[ModelRef, tuple[int, ...]], *, is_vocabulary: bool
    ) -> None:
        given = set(shapes.values())
        rest = {shape[1:] for shape in given}
        if len(given) == 1 or (is_vocabulary and self.rows_may_differ and len(rest) == 1):
            return
        each = ", ".join(f"{shape} in {model}" for model, shape in shapes.items())
        self._add(f"{name}: {each}", _ROWS if is_vocabulary and len(rest) == 1 else _OTHER)

    def _add(self, text: str, hint: str) -> None:
        self.found.append(text)
        self.hints.add(hint)


def _listed(models: Sequence[ModelRef]) -> str:
    return " and ".join(str(model) for model in models)


def _have(models: Sequence[ModelRef]) -> str:
    return "has" if len(models) == 1 else "have"
