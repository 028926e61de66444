"""What a model's author says of it: the front matter of its card, or the metadata of its file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.metadata import text, texts, whole

README = "README.md"
MAX_BYTES = 256 * 2**10
"""Of a card, the part that is looked at for the end of its front matter."""
_MAX_TEXTS = 1000
_HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Card:
    """What is said, () and None where nothing is; note: why a card could not be read."""

    license: str | None = None
    base_models: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    note: str | None = None


def card_of(artifact: Artifact) -> Card:
    """The card of a model; a broken one is a note, since it changes nothing about the weights."""
    if artifact.kind == GGUF:
        return _of_gguf(artifact.metadata)
    try:
        content = artifact.beside(README)
        return Card() if content is None else _of_readme(content[:MAX_BYTES])
    except EntrenarError as error:
        return Card(note=f"the card could not be read: {error.message}")


def _of_readme(content: bytes) -> Card:
    lines = content.decode(errors="replace").lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return Card()
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return Card(note=f"{README}: its front matter has no end")
    from entrenar_core.io.yaml_file import parse_yaml  # slow to load, and few models have a card

    found = parse_yaml("\n".join(lines[1:end]), README).data
    if not isinstance(found, dict):
        return Card(note=f"{README}: its front matter is no mapping")
    license_name = found.get("license_name") if found.get("license") == "other" else None
    return Card(
        next(iter(_texts(license_name or found.get("license"))), None),
        _texts(found.get("base_model")),
        _texts(found.get("language")),
        _texts(found.get("tags")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several; YAML reads the language `no` and the like as what they look like."""
    every: Iterable[Any] = value if isinstance(value, list) else [value]
    return tuple(str(each) for each in every if isinstance(each, str | int | float))


def _of_gguf(metadata: Mapping[str, Any]) -> Card:
    count = whole(metadata, "general.base_model.count") or 0
    bases = [_base(metadata, f"general.base_model.{i}") for i in range(min(count, _MAX_TEXTS))]
    return Card(
        text(metadata, "general.license"),
        tuple(base for base in bases if base),
        texts(metadata, "general.languages", most=_MAX_TEXTS),
        texts(metadata, "general.tags", most=_MAX_TEXTS),
    )


def _base(metadata: Mapping[str, Any], prefix: str) -> str | None:
    """The name on the hub where it has one."""
    address = text(metadata, f"{prefix}.repo_url")
    if address is not None and address.startswith(_HUB):
        return address.removeprefix(_HUB)
    return text(metadata, f"{prefix}.name") or address
