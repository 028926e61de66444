"""Which files of a dataset's repository belong to which split, and how they are read: pure.

Source of the conventions: the Hub's documentation, "File names and splits" of datasets.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.data.globs import translate_glob
from entrenar_core.data.hub_card import CardConfig

Splits = Mapping[str, Sequence[str]]
"""The paths of files by split, in the order in which they are read."""

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}
"""What can be read; where as many files have one suffix as another, the first decides."""

_OTHER_DATA = frozenset(
    f".{suffix}"
    for suffixes in (
        ("json", "tsv", "arrow", "xml", "h5", "hdf5", "lance", "orc", "avro", "db", "sqlite"),
        ("gz", "zst", "xz", "bz2", "lz4", "zip", "tar", "tgz", "7z"),
        ("npy", "npz", "pt", "pkl", "eval", "pdf"),
        ("wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "webm", "mkv", "avi"),
        ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"),
    )
    for suffix in suffixes
)
"""Suffixes of data that is not read here. A file with any other, such as code, is no data."""

_NOT_DATA = frozenset(
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json",
     "dummy_data.zip"]
)  # fmt: skip

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BETWEEN = "[-._ 0-9]"
_IN_FOLDER, _IN_NAME = (
    {
        split: re.compile(rf"(?:^|.*{_BETWEEN})(?:{'|'.join(words)})(?:{after})", re.DOTALL)
        for split, words in KEYWORDS.items()
    }
    for after in (f"{_BETWEEN}.*|$", _BETWEEN)
)
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*", re.ASCII)
_CONVERTED = re.compile(r"([^/]+)/([^/]+)/\d{4,}\.parquet")


def data_files(paths: Iterable[str]) -> list[str]:
    """The paths that are data, sorted: nothing hidden, no code, no licence."""
    return sorted(path for path in paths if _suffix(path) and not _is_hidden(path))


def _suffix(path: str) -> str | None:
    """The suffix of a file that is data."""
    name = path.rsplit("/", 1)[-1]
    suffix = name[name.rfind(".") :].lower() if "." in name[1:] else ""
    known = suffix in FORMATS or suffix in _OTHER_DATA
    return suffix if known and name not in _NOT_DATA else None


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def splits_of(config: CardConfig, paths: Iterable[str]) -> dict[str, list[str]]:
    """The files of a config by split: what its globs match, or else what `splits_by_name` finds."""
    below = f"{config.folder}/" if config.folder else ""
    inside = [path.removeprefix(below) for path in sorted(paths) if path.startswith(below)]
    if config.patterns is None:
        found = splits_by_name(data_files(inside))
    else:
        found = {split: _matched(globs, inside) for split, globs in config.patterns.items()}
    return {split: [below + path for path in files] for split, files in found.items()}


def _matched(globs: Sequence[str], paths: Sequence[str]) -> list[str]:
    """What the globs match, each once, by glob and then by name; what is hidden only by a glob that
    spells it out."""
    found: dict[str, None] = {}
    for glob in globs:
        pattern, spelt = translate_glob(glob), _is_hidden(glob)
        found |= {
            path: None
            for path in paths
            if pattern.fullmatch(path) and _suffix(path) and (spelt or not _is_hidden(path))
        }
    return list(found)


def splits_by_name(paths: Sequence[str]) -> dict[str, list[str]]:
    """Data files by the split that their names say: shards as data/SPLIT-00000-of-00001, else
    folders called by a split, else files called so, else all are train."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths:
        if shard := _SHARD.fullmatch(path):
            found[shard[1]].append(path)
    if found:
        return dict(found)
    for part, words in ((slice(None, -1), _IN_FOLDER), (slice(-1, None), _IN_NAME)):
        for split, word in words.items():
            said = [path for path in paths if any(map(word.match, path.split("/")[part]))]
            if said:
                found[split] = said
        if found:
            return dict(found)
    return {"train": list(paths)} if paths else {}


def converted_splits(paths: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The files of a converted branch, by config and split: CONFIG/SPLIT/0000.parquet; empty where
    a data file is called otherwise."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in data_files(paths):
        named = _CONVERTED.fullmatch(path)
        if named is None:
            return {}
        found.setdefault(named[1], {}).setdefault(named[2], []).append(path)
    return found


def one_split(splits: Splits, split: str, name: str) -> Sequence[str]:
    """The files of the split; NotFoundError, with the names of all, where there is none."""
    if not splits.get(split):
        known = ", ".join(escape_controls(each) for each, files in splits.items() if files)
        raise NotFoundError(
            f"{name}: there is no split '{escape_controls(split)}'",
            hint=f"set split to one of: {known}" if known else "no file matches any of its splits",
        )
    return splits[split]


def readable(files: Sequence[str], name: str) -> list[tuple[str, str]]:
    """The files that have the most frequent suffix, and their format; UnsupportedError where that
    is no format that can be read."""
    counts = collections.Counter(filter(None, map(_suffix, files)))
    ranks = [*(s for s in FORMATS if s != ".txt"), *sorted(_OTHER_DATA), ".txt"]
    best = max(counts, key=lambda suffix: (counts[suffix], -ranks.index(suffix)), default="")
    if best not in FORMATS:
        what = f"its files are {best}" if best else "it has no data files"
        raise UnsupportedError(f"{name}: {what}", hint=f"{', '.join(FORMATS)} can be read")
    return [(path, FORMATS[best]) for path in files if _suffix(path) == best]
