"""What is known of a loaded model from its headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_common.errors import EntrenarError, NotFoundError
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes, format_count
from entrenar_shell.session import LoadedModel

if TYPE_CHECKING:
    from entrenar_inspect.recognise import Recognition

__all__ = ["Described", "Models", "described", "need", "seen"]


@dataclass(frozen=True)
class Described:
    """A loaded model: what kind of files it has, what of, and how large it is; `problem` is why
    that is not known, empty where it is."""

    name: str
    source: str
    format: str = ""
    architecture: str = ""
    layers: int | None = None
    hidden: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    problem: str = ""

    def __view__(self) -> list[Any]:
        size = f"{format_count(self.parameters or 0)} parameters, {format_bytes(self.bytes or 0)}"
        shape = f", {self.layers} layers of {self.hidden}" if self.layers and self.hidden else ""
        return [
            Text(f"Loaded {self.name}: {self.format}, {size}", "good"),
            Fields(None, [("architecture", f"{self.architecture}{shape}"), ("from", self.source)]),
        ]


@dataclass(frozen=True)
class Models:
    """The loaded models, in the order in which they were loaded."""

    models: tuple[Described, ...]

    def __view__(self) -> list[Any]:
        if not self.models:
            return [Text("No model is loaded: load PATH as NAME, or fetch ORG/NAME.", "note")]
        columns = ["name", "format", "architecture", "parameters", "size", "from"]
        return [Table("Models", columns, [_row(model) for model in self.models])]


def _row(model: Described) -> list[Any]:
    if model.problem:
        return [model.name, Text(model.problem, "bad"), None, None, None, model.source]
    return [
        model.name, model.format, model.architecture, format_count(model.parameters or 0),
        format_bytes(model.bytes or 0), model.source,
    ]  # fmt: skip


def described(model: LoadedModel) -> Described:
    """What the headers of a model say.

    Raises what opening it raises: NotFoundError, FormatError, RefusedError, HubError and others.
    """
    from entrenar_inspect.info import info
    from entrenar_inspect.opening import open_artifact

    need(model)
    with open_artifact(_spec(model.source)) as artifact:
        found = info(artifact)
    return Described(
        model.name, model.source, found.format, _architecture(found.recognition),
        found.dimensions.layers, found.dimensions.hidden, found.parameters.total, found.nbytes,
    )  # fmt: skip


def _architecture(found: Recognition) -> str:
    return found.family or found.model_type or "unknown"


def seen(model: LoadedModel) -> Described:
    """What the headers of a model say, or what is wrong with it."""
    try:
        return described(model)
    except EntrenarError as error:
        return Described(model.name, model.source, problem=error.message)


def _spec(source: str) -> str:
    from entrenar_shell.form import HUB
    from entrenar_shell.knowledge import place

    return place(source, hub=HUB)


def need(model: LoadedModel) -> None:
    """Raise NotFoundError where the files of a loaded model are not there any more."""
    if model.source.startswith("/") and not Path(model.source).exists():
        raise NotFoundError(
            f"{model.name} was loaded from {model.source}, and that is gone",
            hint=f"put it back, or load it from elsewhere: load PATH as {model.name}",
        )
