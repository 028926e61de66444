"""What the card of a dataset, its README.md, says about its files: `configs` in the front matter.

Source: the Hub's documentation, "Manual configuration" of datasets.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError, EntrenarError, FormatError, RefusedError
from entrenar_common.text import escape_controls
from entrenar_core.io.yaml_file import parse_yaml

_PLAIN_KEYS = frozenset(
    ["config_name", "data_dir", "data_files", "default", "description", "features", "version"]
)
"""Keys that do not change what the text in a file is."""


@dataclass(frozen=True)
class CardConfig:
    """One of the configs (subsets) of a dataset.

    patterns: globs by split, None where names of files decide
    folder:   what names and globs are relative to, "" for the repository
    options:  other keys, such as a separator of CSV fields
    """

    name: str
    default: bool
    patterns: Mapping[str, tuple[str, ...]] | None
    folder: str = ""
    options: tuple[str, ...] = ()


def card_configs(card: str, name: str) -> list[CardConfig]:
    """The configs in the text of a card, which messages call `name`; none where there is no list.

    Raises FormatError for front matter that cannot be read or is not such a list.
    """
    try:
        found = parse_yaml(_front_matter(card), name).data
    except (ConfigError, RefusedError) as error:
        raise FormatError(f"{error}", hint=_OWNER) from error
    listed = found.get("configs") if isinstance(found, dict) else None
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise _malformed(name, "configs", "wanted a list of sections")
    configs = [_config(each, f"configs.{i}", name) for i, each in enumerate(listed)]
    names = [config.name for config in configs]
    if len(set(names)) != len(names):
        raise _malformed(name, "configs", "two have one name")
    return configs


_OWNER = "tell the dataset's owner, or download the files and give them as source: files"


def _malformed(name: str, key: str, problem: str) -> EntrenarError:
    return FormatError(f"{name}: {escape_controls(key)}: {problem}", hint=_OWNER)


def _front_matter(card: str) -> str:
    """The YAML between two lines of three dashes at the start, moved down by a line so that lines
    are counted as in the card."""
    lines = card.removeprefix("\ufeff").splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return ""
    return "\n" + "\n".join(lines[1 : lines.index("---", 1)])


def _config(section: dict[str, Any], key: str, name: str) -> CardConfig:
    called, folder = section.get("config_name", "default"), section.get("data_dir", "")
    if not isinstance(called, str | int | float) or not isinstance(folder, str):
        raise _malformed(name, key, "config_name and data_dir have to be text")
    files = section.get("data_files")
    return CardConfig(
        name=str(called),
        default=section.get("default") is True,
        patterns=None if files is None else _patterns(files, f"{key}.data_files", name),
        folder=posixpath.normpath(folder) if folder not in ("", ".", "./") else "",
        options=tuple(sorted(section.keys() - _PLAIN_KEYS)),
    )


def _patterns(files: Any, key: str, name: str) -> dict[str, tuple[str, ...]]:
    """Globs by split: of one text, of a list of texts, of {split: globs}, or of a list of sections
    with split and path. Where no split is named it is train."""
    if isinstance(files, dict):
        return {split: _globs(paths, key, name) for split, paths in files.items()}
    if isinstance(files, list) and files and all(isinstance(each, dict) for each in files):
        found: dict[str, tuple[str, ...]] = {}
        for each in files:
            if each.keys() != {"split", "path"} or str(each["split"]) in found:
                raise _malformed(name, key, "wanted a split and a path for each split, once")
            found[str(each["split"])] = _globs(each["path"], key, name)
        return found
    return {"train": _globs(files, key, name)}


def _globs(paths: Any, key: str, name: str) -> tuple[str, ...]:
    found = [paths] if isinstance(paths, str) else paths
    if not isinstance(found, list) or not found or not all(isinstance(p, str) for p in found):
        raise _malformed(name, key, "wanted a path or a list of paths")
    for path in found:
        if "://" in path or "::" in path or path.startswith("/") or ".." in path.split("/"):
            raise _malformed(name, key, f"{escape_controls(path)} is not below the repository")
    return tuple(posixpath.normpath(path) for path in found)
