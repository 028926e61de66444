"""Whether two results of the same command are the same: files byte for byte, and reports apart from
what no two runs have in common.

Of reports these are apart. In report.json, run.json, state.json, manifest.json and metrics.jsonl,
fields of these names, wherever they are:

    seconds, tokens_per_second, rows_per_second   how long it took
    memory_bytes                                  what the process took
    config_hash, run_id                           follow from paths in the configuration; the
                                                  configuration itself is compared, in run.json
    checksum; sha256 and size of state.json       in a checkpoint's manifest.json: state.json says
                                                  how long the training took

In tables of Markdown, HTML and CSV columns of times; in a page the charts and rows Tokens per
second and Peak memory; in the report of a training the figures after its steps; in that of a
distillation the hash of the configuration. Besides, wherever a
text names a path that was written, the other may name its own, quoted otherwise where it needs it;
a tool may be called by its path or by its name, and lines that are broken after a backslash may be
broken elsewhere. Files that say nothing but when something happened are not
compared: spans.jsonl and TensorBoard's events. All else is compared: weights, adapters, exported
models, tokenizers and whatever is not named here byte for byte.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any

from entrenar_common.errors import FormatError
from entrenar_core.io import files
from entrenar_shell.tools import TOOLS

__all__ = ["Paths", "difference"]

APART = frozenset(
    {"seconds", "tokens_per_second", "rows_per_second", "memory_bytes", "config_hash", "run_id"}
)
COLUMNS = frozenset({"Time", "Tokens/s", "Texts/s", "Documents/s"})
CHARTS = ("Tokens per second", "Peak memory")
NOT_COMPARED = ("spans.jsonl", "events.out.tfevents.*")

_HASH = re.compile(r"^(- configuration: )`[0-9a-f]{16}`$", re.M)
_STEPS = re.compile(r"(\d+) in [^,<`]+, [^<`]+ tokens/s")
_BROKEN = re.compile(r" *\\\n *")
_TOOL = re.compile(rf"(?<!\S)'?/[^\s'\"]*/({'|'.join(TOOLS)})'?(?= )")
_FIGURE = re.compile(rf'<figure class="chart"><figcaption>(?:{"|".join(CHARTS)}).*?</figure>', re.S)
_TABLE = re.compile(r"<table>.*?</table>", re.S)
_ROW = re.compile(r"<tr>.*?</tr>", re.S)
_CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.S)
_SHOWN = 120


class Paths:
    """Where outputs were and where they are in the other run: of each, what the first run may
    call it, by what the second calls it."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = {_plain(new): [_plain(name) for name in old] for new, old in names.items()}
        longest = sorted(self._names, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    def same(self, first: str, second: str) -> bool:
        """Whether two texts are the same but for paths that were written."""
        if first == second:
            return True
        first, second = _plain(first), _plain(second)
        pattern, end = "", 0
        for found in self._known.finditer(second):
            names = [found[0], *self._names[found[0]]]
            pattern += re.escape(second[end : found.start()])
            pattern += f"(?:{'|'.join(map(re.escape, names))})"
            end = found.end()
        return re.fullmatch(pattern + re.escape(second[end:]), first) is not None


def _plain(text: str) -> str:
    """A text with tools by their names and without quotes, which some paths need in a command."""
    return _TOOL.sub(r"\1", text).replace("'", "").replace('"', "")


def difference(first: Path, second: Path, paths: Paths) -> str | None:
    """Where two files that should be the same differ, in words; None where they do not."""
    if any(fnmatchcase(first.name, pattern) for pattern in NOT_COMPARED):
        return None
    if files.sha256_file(first) == files.sha256_file(second):
        return None
    try:
        return _reader(first.name)(first, second, paths)
    except FormatError as error:
        return f"cannot be compared: {error.message}"


def _reader(name: str) -> Callable[[Path, Path, Paths], str | None]:
    return next(reader for pattern, reader in _READERS.items() if fnmatchcase(name, pattern))


def _bytes(_first: Path, _second: Path, _paths: Paths) -> str:
    return "other bytes"


# ---- JSON --------------------------------------------------------------------------------------


def _json(first: Path, second: Path, paths: Paths) -> str | None:
    return _of_values(files.read_json(first), files.read_json(second), paths)


def _manifest(first: Path, second: Path, paths: Paths) -> str | None:
    one, other = (_without_state(files.read_json(path)) for path in (first, second))
    return _of_values(one, other, paths)


def _without_state(manifest: Any) -> Any:
    """Without what follows from how long the training took, which state.json says."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
        return manifest
    kept = [file for file in manifest["files"] if file.get("name") != "state.json"]
    return {**manifest, "files": kept, "checksum": None}


def _jsonl(first: Path, second: Path, paths: Paths) -> str | None:
    pairs = zip_longest(files.read_text(first).splitlines(), files.read_text(second).splitlines())
    for number, lines in enumerate(pairs, 1):
        one, other = (None if x is None else files.parse_json(x, first) for x in lines)
        if found := _of_values(one, other, paths):
            return f"line {number}, {found}"
    return None


def _of_values(first: Any, second: Any, paths: Paths) -> str | None:
    for where, one, other in _leaves(first, second, ""):
        texts = isinstance(one, str) and isinstance(other, str)
        if not (paths.same(_joined(one), _joined(other)) if texts else _equal(one, other)):
            return f"{where or 'all of it'}: {_short(one)} and {_short(other)}"
    return None


def _joined(text: str) -> str:
    return _BROKEN.sub(" ", text)


def _equal(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second


def _leaves(first: Any, second: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """What is at the same place in both, down to where they are no longer of one shape."""
    if isinstance(first, dict) and isinstance(second, dict) and list(first) == list(second):
        for name in first:
            if name not in APART:
                yield from _leaves(first[name], second[name], f"{where}.{name}".strip("."))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _leaves(one, other, f"{where}[{i}]")
    else:
        yield where, first, second


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# ---- text --------------------------------------------------------------------------------------


def _text(first: Path, second: Path, paths: Paths) -> str | None:
    one, other = (_joined(files.read_text(path)) for path in (first, second))
    return _of_lines(one, other, paths)


def _markdown(first: Path, second: Path, paths: Paths) -> str | None:
    one, other = (_without_times(_joined(files.read_text(path))) for path in (first, second))
    return _of_lines(one, other, paths)


def _page(first: Path, second: Path, paths: Paths) -> str | None:
    one, other = (_page_lines(files.read_text(path)) for path in (first, second))
    return _of_lines(one, other, paths)


def _csv(first: Path, second: Path, paths: Paths) -> str | None:
    one, other = (_without_columns(files.read_text(path)) for path in (first, second))
    return _of_lines(one, other, paths)


def _of_lines(first: str, second: str, paths: Paths) -> str | None:
    pairs = zip_longest(first.splitlines(), second.splitlines())
    for number, (one, other) in enumerate(pairs, 1):
        if one is None or other is None or not paths.same(one, other):
            return f"line {number}: {_short(one)} and {_short(other)}"
    return None


def _without_times(text: str) -> str:
    """Markdown with the cells of columns of times empty."""
    lines, timed = [], frozenset[int]()
    for line in _HASH.sub(r"\1", _STEPS.sub(r"\1", text)).split("\n"):
        if not line.startswith("|"):
            lines.append(line)
            timed = frozenset()
            continue
        cells = line.split("|")
        timed = timed or frozenset(i for i, cell in enumerate(cells) if cell.strip() in COLUMNS)
        lines.append("|".join("" if i in timed else cell for i, cell in enumerate(cells)))
    return "\n".join(lines)


def _page_lines(text: str) -> str:
    """A page, each tag and each text on a line of its own, without charts and cells of times."""
    text = _TABLE.sub(lambda table: _table_lines(table[0]), _FIGURE.sub("", text))
    broken = _joined(_STEPS.sub(r"\1", text)).replace("<", "\n<").replace(">", ">\n")
    return html.unescape(broken)


def _table_lines(table: str) -> str:
    kept, timed = [], frozenset[int]()
    for row in _ROW.findall(table):
        cells = _CELL.findall(row)
        timed = timed or frozenset(i for i, cell in enumerate(cells) if cell in COLUMNS)
        if not any(cell.startswith(CHARTS) for cell in cells):
            kept += [cell for i, cell in enumerate(cells) if i not in timed] + [""]
    return "\n".join(kept)


def _without_columns(text: str) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    timed = {i for i, name in enumerate(rows[0] if rows else []) if name in APART}
    return "\n".join(",".join(c for i, c in enumerate(row) if i not in timed) for row in rows)


_READERS = {
    "tokenizer.json": _bytes,
    "report.json": _json,
    "run.json": _json,
    "state.json": _json,
    "manifest.json": _manifest,
    "metrics.jsonl": _jsonl,
    "*.json": _text,
    "*.yaml": _text,
    "*.yml": _text,
    "*.md": _markdown,
    "*.html": _page,
    "*.csv": _csv,
    "*": _bytes,
}
"""What compares files that are not the same bytes, by patterns of their names: the first counts."""
