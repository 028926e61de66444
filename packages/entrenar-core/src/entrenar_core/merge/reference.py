"""Which model is meant: a folder or a repository of the hub, and an adapter that goes on top.

mergekit's configs write `path@revision+adapter@revision`, or a section with `model` and `lora`.
"""

from dataclasses import dataclass
from functools import total_ordering
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls
from entrenar_core.io.yaml_file import KeyPath
from entrenar_core.merge.problems import Problems, shown


@dataclass(frozen=True)
class AdapterRef:
    """A LoRA adapter: where it is, and its revision if it is not the newest."""

    path: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.path}@{self.revision}" if self.revision else self.path


@total_ordering
@dataclass(frozen=True)
class ModelRef:
    """A model: where it is, its revision if it is not the newest, and an adapter that is merged
    into it first. References are in the order of their texts."""

    path: str
    revision: str | None = None
    adapter: AdapterRef | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """From mergekit's text form. Raises ConfigError for one that is not of it.

        >>> ModelRef.parse("org/model@v2+org/lora").adapter
        AdapterRef(path='org/lora', revision=None)
        """
        model, *adapters = text.split("+")
        if len(adapters) > 1:
            raise _unreadable(text, "it has more than one '+'")
        path, revision = _path_and_revision(text, model)
        adapter = AdapterRef(*_path_and_revision(text, adapters[0])) if adapters else None
        return cls(path, revision, adapter)

    def __str__(self) -> str:
        own = f"{self.path}@{self.revision}" if self.revision else self.path
        return f"{own}+{self.adapter}" if self.adapter else own

    def __lt__(self, other: "ModelRef") -> bool:
        return str(self) < str(other)


def read_reference(value: Any, path: KeyPath, problems: Problems) -> ModelRef | None:
    """The model that a config's value means; None, with a problem, where it means none."""
    if isinstance(value, str):
        try:
            return ModelRef.parse(value)
        except ConfigError as error:
            problems.add(path, error.message, hint=error.hint)
            return None
    if not isinstance(value, dict):
        problems.add(path, f"must name a model, not {shown(value)}", hint=_FORMS)
        return None
    keys = problems.section(value, path, ("model", "lora", "override_architecture"))
    if "override_architecture" in keys:
        problems.add(
            (*path, "override_architecture"),
            "a model is merged as what its config.json says it is",
            hint="leave override_architecture out, or correct the model's config.json",
            unsupported=True,
        )
    if "model" not in keys:
        problems.add((*path, "model"), "is missing", hint=_FORMS)
        return None
    model = _place(keys["model"], (*path, "model"), problems)
    adapter = _place(keys["lora"], (*path, "lora"), problems) if "lora" in keys else None
    return ModelRef(model.path, model.revision, adapter) if model else None


_FORMS = "write path, path@revision or path+adapter, or a section with model and lora"


def _place(value: Any, path: KeyPath, problems: Problems) -> AdapterRef | None:
    """Where a model or an adapter is, from text or a section with `path` and `revision`."""
    if isinstance(value, str):
        try:
            return AdapterRef(*_path_and_revision(value, value))
        except ConfigError as error:
            problems.add(path, error.message, hint=error.hint)
            return None
    keys = problems.section(value, path, ("path", "revision"))
    if keys and "path" not in keys:
        problems.add((*path, "path"), "is missing")
    texts = {key: problems.text(keys[key], (*path, key)) for key in keys}
    if any(text is None for text in texts.values()) or "path" not in texts:
        return None
    return AdapterRef(str(texts["path"]), texts.get("revision"))


def _path_and_revision(whole: str, text: str) -> tuple[str, str | None]:
    path, *revisions = text.split("@")
    if len(revisions) > 1:
        raise _unreadable(whole, "it has more than one '@'")
    if not path.strip() or not all(revisions):
        raise _unreadable(whole, "a path or a revision in it is empty")
    return path, revisions[0] if revisions else None


def _unreadable(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot read {escape_controls(text)!r} as the name of a model: {why}",
        hint="a path with @ or + in it is written as a section: model: {path: ...}",
    )
