"""A dataset as token ids: made once, kept in a cache on the disk, mapped into memory after that."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from entrenar_common.errors import EntrenarError, StorageError
from entrenar_common.progress import Progress
from entrenar_core.data.documents import (
    Mask,
    Sink,
    Table,
    TokenizedDocuments,
    Written,
    packed,
    split,
)
from entrenar_core.data.readers import bad
from entrenar_core.data.row_kinds import answer_mask
from entrenar_core.data.sources import (
    AnySource,
    DatasetSpec,
    Document,
    Skips,
    list_files,
    read_documents,
)
from entrenar_core.data.tokenizer import Ids, Tokenizer, started
from entrenar_core.io import files
from entrenar_core.io.own_cache import own_cache

__all__ = ["TokenizedDocuments", "cache_folder", "split", "tokenize"]

_SCHEMA = "entrenar.tokens/2"
_CHUNK_CHARACTERS = 2 * 2**20
_CHUNK_DOCUMENTS = 4096
_TOKENS, _TRAINED, _DOCUMENTS, _NAMES = "tokens.bin", "trained.bin", "documents.bin", "names.txt"
_FILES = (_TOKENS, _TRAINED, _DOCUMENTS, _NAMES)


def tokenize(
    spec: DatasetSpec,
    tokenizer: Tokenizer,
    *,
    progress: Progress | None = None,
    cache_root: Path | None = None,
    use_cache: bool = True,
) -> TokenizedDocuments:
    """The documents of a dataset as ids, from the cache when no file has changed since.

    The cache is keyed by the tokenizer, the options, and each file's path, size and time of change;
    of files on the hub by commit and hash instead, and what is cached is not fetched again.
    A folder that cannot be created is a warning, and the ids stay in memory; a disk that fills up
    meanwhile is a StorageError. Other errors are those of `iter_documents`.
    """
    sources = list_files(spec)
    docs = _tokens_of(spec, sources, tokenizer, progress, cache_root, use_cache)
    return replace(docs, revision=sources[0].revision)


def _tokens_of(
    spec: DatasetSpec,
    sources: Sequence[AnySource],
    tokenizer: Tokenizer,
    progress: Progress | None,
    cache_root: Path | None,
    use_cache: bool,
) -> TokenizedDocuments:
    if not use_cache:
        return _in_memory(spec, sources, tokenizer, progress)
    folder = (cache_root or cache_folder()) / _key(spec, sources, tokenizer)
    found = _load(folder)
    if found is not None:
        return found
    try:
        files.make_folder(folder)
    except StorageError as error:
        docs = _in_memory(spec, sources, tokenizer, progress)
        return replace(docs, warnings=(*docs.warnings, f"the tokens are not cached: {error}"))
    return _into(folder, spec, sources, tokenizer, progress)


def cache_folder() -> Path:
    """Where tokenized datasets are kept: `entrenar/tokens` below the XDG cache folder."""
    return own_cache("tokens")


def _key(spec: DatasetSpec, sources: Sequence[AnySource], tokenizer: Tokenizer) -> str:
    listed = [source.identity for source in sources]
    options = [spec.text_field, spec.skip_bad, spec.max_documents]
    versions = [_SCHEMA, tokenizers.__version__, tokenizer.fingerprint]
    rows = None if spec.rows is None else spec.rows.key(tokenizer)
    text = json.dumps([versions, options, rows, listed])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _in_memory(
    spec: DatasetSpec, sources: Sequence[AnySource], tokenizer: Tokenizer, progress: Progress | None
) -> TokenizedDocuments:
    written = Written()
    work = _Work(spec, tokenizer, written)
    work.run(sources, progress)
    return work.finish(*written.arrays())


class _Files:
    """A sink into the files of ids and masks, a byte for each token."""

    def __init__(self, tokens: files.AtomicWriter, trained: files.AtomicWriter) -> None:
        self._tokens, self._trained = tokens, trained

    def tokens(self, ids: Ids, /) -> object:
        return self._tokens.write(ids.data)

    def mask(self, trained: Mask, /) -> object:
        return self._trained.write(trained.data)


def _into(
    folder: Path,
    spec: DatasetSpec,
    sources: Sequence[AnySource],
    tokenizer: Tokenizer,
    progress: Progress | None,
) -> TokenizedDocuments:
    """Tokenizes into the folder chunk by chunk; meta.json comes last and makes it valid."""
    with (
        files.open_atomic(folder / _TOKENS) as ids,
        files.open_atomic(folder / _TRAINED) as masks,
    ):
        work = _Work(spec, tokenizer, _Files(ids, masks))
        work.run(sources, progress)
    table = work.table
    files.write_bytes(folder / _DOCUMENTS, packed(table.lengths, table.byte_counts))
    files.write_text(folder / _NAMES, "\n".join(table.names))
    docs = work.finish(_mapped(folder / _TOKENS, "<i4"), _mapped(folder / _TRAINED, "?"))
    meta = {
        "schema": _SCHEMA,
        "documents": len(docs),
        "sizes": {name: (folder / name).stat().st_size for name in _FILES},
        "max_id": docs.max_id,
        "fingerprint": docs.fingerprint,
        "masked": table.masked,
        "closed": table.closed,
        "skipped": docs.skips.count,
        "problems": docs.skips.problems,
        "warnings": docs.warnings,
    }
    files.write_json(folder / "meta.json", meta)
    return docs


class _Work:
    """Documents of one dataset on their way to ids."""

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer, sink: Sink) -> None:
        rows = spec.rows
        self.spec, self.tokenizer, self.sink = spec, tokenizer, sink
        self.table = Table(
            masked=rows is not None and rows.answers_only,
            closed=rows is not None and rows.closed,
        )
        self.skips, self.endless = Skips(), 0
        self._special = np.array(sorted(tokenizer.special_tokens.values()), np.int32)

    def run(self, sources: Sequence[AnySource], progress: Progress | None) -> None:
        total = sum(source.size for source in sources)
        rows, tokens = self.spec.rows, 0
        opened = nullcontext() if rows is None else rows.opened(self.tokenizer)
        with opened as convert, started(progress, "tokenize", total) as meter:
            documents = read_documents(sources, self.spec, skips=self.skips, convert=convert)
            for chunk in _chunks(documents):
                tokens += self._add(chunk)
                meter.advance(sum(document.source_bytes for document in chunk), tokens=tokens)

    def finish(self, tokens: Ids, trained: Mask) -> TokenizedDocuments:
        docs, warnings = self.table.finish(tokens, trained, self.skips), ()
        if self.endless:
            warnings = (
                f"the last answer of {self.endless} of {len(docs)} conversations ends without a "
                "special token: a model does not learn from it where to stop",
            )
        return replace(docs, warnings=warnings)

    def _add(self, chunk: list[Document]) -> int:
        """Tokenizes some documents; returns how many tokens they have."""
        texts, masks = [document.text for document in chunk], None
        if self.table.masked:
            chunk, ids, masks = self._masked(chunk, texts)
        elif self.table.closed:
            ids = [ids for ids, _ in self.tokenizer.encode_spans(texts, template=False)]
        else:
            ids = self.tokenizer.encode_many(texts)
        names = [document.name for document in chunk]
        counts = [document.utf8_bytes for document in chunk]
        self.table.add(names, ids, counts, self.sink, masks)
        return sum(map(len, ids))

    def _masked(
        self, chunk: list[Document], texts: list[str]
    ) -> tuple[list[Document], list[Ids], list[Mask]]:
        """The documents of which something is trained on, their ids, and which of these."""
        found: list[tuple[Document, Ids, Mask]] = []
        encoded = self.tokenizer.encode_spans(texts, template=not self.table.closed)
        for document, (ids, offsets) in zip(chunk, encoded, strict=True):
            mask = answer_mask(offsets, document.answers or ())
            if mask.any():
                found.append((document, ids, mask))
                last = ids[np.flatnonzero(mask)[-1]]
                self.endless += self.table.closed and last not in self._special
                continue
            problem = bad(f"{document.name}: no token is of an answer").error
            if not self.spec.skip_bad:
                raise problem
            self.skips.add(str(problem))
        return [d for d, _, _ in found], [i for _, i, _ in found], [m for _, _, m in found]


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text)
        if characters >= _CHUNK_CHARACTERS or len(chunk) >= _CHUNK_DOCUMENTS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _load(folder: Path) -> TokenizedDocuments | None:
    """The cached documents; None when there are none, or when they are not whole."""
    try:
        meta = files.read_json(folder / "meta.json")
        if not _is_whole(folder, meta):
            return None
        names = (folder / _NAMES).read_text("utf-8").split("\n")
        counts = _mapped(folder / _DOCUMENTS, "<i8").reshape(2, -1)
        tokens, trained = _mapped(folder / _TOKENS, "<i4"), _mapped(folder / _TRAINED, "?")
        if counts[0].sum() != len(tokens) or not (
            len(names) == counts.shape[1] == meta["documents"]
            and len(trained) == (len(tokens) if meta["masked"] else 0)
        ):
            return None
        return TokenizedDocuments(
            names=names,
            tokens=tokens,
            starts=np.cumsum(counts[0]) - counts[0],
            lengths=counts[0],
            byte_counts=counts[1],
            max_id=meta["max_id"],
            fingerprint=meta["fingerprint"],
            skips=Skips(meta["skipped"], meta["problems"]),
            warnings=tuple(meta["warnings"]),
            trained=trained if meta["masked"] else None,
            closed=meta["closed"],
        )
    except (EntrenarError, OSError, KeyError, TypeError, ValueError):
        return None  # a damaged cache is made again


def _is_whole(folder: Path, meta: Any) -> bool:
    return meta["schema"] == _SCHEMA and all(
        (folder / name).stat().st_size == meta["sizes"][name] for name in _FILES
    )


def _mapped(path: Path, dtype: str) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)
