"""A model downloaded from the hub, and what it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import NotFoundError
from entrenar_common.tables import Fields, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_count
from entrenar_core.io.hub import fetch_model
from entrenar_core.io.hub_model import is_hub_name
from entrenar_inspect.hub_place import HUB
from entrenar_inspect.info import info
from entrenar_inspect.opening import open_artifact

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True)
class Fetched:
    """A model in the cache of the hub.

    folder: of its files at the commit; nbytes: of the files that hold tensors; format: of these;
    family: None where it is not recognised; layers, hidden: None where they are not known.
    """

    model: str
    revision: str | None
    commit: str
    folder: str
    format: str
    nbytes: int
    parameters: int
    family: str | None
    layers: int | None
    hidden: int | None

    def __view__(self) -> list[Any]:
        architecture = self.family or "unknown"
        if self.layers is not None:
            architecture += f", {self.layers} layers"
        if self.hidden is not None:
            architecture += f", hidden size {self.hidden}"
        size = f"{format_bytes(self.nbytes)}, {self.format}"
        return [
            Text(f"Fetched {self.model} ({size})", "good"),
            Fields(
                None,
                [
                    ("architecture", architecture),
                    ("parameters", format_count(self.parameters)),
                    ("commit", self.commit),
                    ("folder", self.folder),
                ],
            ),
        ]


def fetch(name: str, *, revision: str | None = None) -> Fetched:
    """Download the hub's model `name` at `revision`, a branch, tag or commit, or find it in the
    cache; and say what its headers say.

    Raises NotFoundError for what is no name on the hub, what `entrenar_core.io.hub.fetch_model`
    raises, and what opening the model raises.
    """
    called = name.removeprefix(HUB)
    if not is_hub_name(called):
        raise NotFoundError(
            f"'{escape_controls(name)}' is not a name on the hub", hint="write it like org/model"
        )
    folder = fetch_model(called, revision)
    with open_artifact(str(folder)) as artifact:
        found = info(artifact)
    return Fetched(
        called, revision, Path(folder).name, str(folder), found.format, found.nbytes,
        found.parameters.total, found.recognition.family, found.dimensions.layers,
        found.dimensions.hidden,
    )  # fmt: skip
