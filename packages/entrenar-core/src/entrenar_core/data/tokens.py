"""A dataset as token ids: made once, kept in a cache on the disk, mapped into memory after that."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from entrenar_common.errors import EntrenarError, StorageError
from entrenar_common.progress import Progress
from entrenar_core.data.documents import Table, TokenizedDocuments, joined, packed, split
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

_SCHEMA = "entrenar.tokens/1"
_CHUNK_CHARACTERS = 2 * 2**20
_CHUNK_DOCUMENTS = 4096
_FILES = ("tokens.bin", "documents.bin", "names.txt")


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
        return replace(docs, warnings=(f"the tokens are not cached: {error}",))
    return _into(folder, spec, sources, tokenizer, progress)


def cache_folder() -> Path:
    """Where tokenized datasets are kept: `entrenar/tokens` below the XDG cache folder."""
    return own_cache("tokens")


def _key(spec: DatasetSpec, sources: Sequence[AnySource], tokenizer: Tokenizer) -> str:
    listed = [source.identity for source in sources]
    options = [spec.text_field, spec.skip_bad, spec.max_documents]
    versions = [_SCHEMA, tokenizers.__version__, tokenizer.fingerprint]
    return hashlib.sha256(json.dumps([versions, options, listed]).encode()).hexdigest()[:32]


def _in_memory(
    spec: DatasetSpec, sources: Sequence[AnySource], tokenizer: Tokenizer, progress: Progress | None
) -> TokenizedDocuments:
    chunks: list[Ids] = []
    table, skips = _tokenized(spec, sources, tokenizer, progress, chunks.append)
    return table.finish(joined(chunks), skips)


def _into(
    folder: Path,
    spec: DatasetSpec,
    sources: Sequence[AnySource],
    tokenizer: Tokenizer,
    progress: Progress | None,
) -> TokenizedDocuments:
    """Tokenizes into the folder chunk by chunk; meta.json comes last and makes it valid."""
    with files.open_atomic(folder / "tokens.bin") as file:
        table, skips = _tokenized(
            spec, sources, tokenizer, progress, lambda ids: file.write(ids.data)
        )
    files.write_bytes(folder / "documents.bin", packed(table.lengths, table.byte_counts))
    files.write_text(folder / "names.txt", "\n".join(table.names))
    docs = table.finish(_mapped(folder / "tokens.bin", np.dtype("<i4")), skips)
    meta = {
        "schema": _SCHEMA,
        "documents": len(docs),
        "sizes": {name: (folder / name).stat().st_size for name in _FILES},
        "max_id": docs.max_id,
        "fingerprint": docs.fingerprint,
        "skipped": skips.count,
        "problems": skips.problems,
    }
    files.write_json(folder / "meta.json", meta)
    return docs


def _tokenized(
    spec: DatasetSpec,
    sources: Sequence[AnySource],
    tokenizer: Tokenizer,
    progress: Progress | None,
    write: Callable[[Ids], object],
) -> tuple[Table, Skips]:
    table, skips = Table(), Skips()
    total = sum(source.size for source in sources)
    documents = read_documents(sources, spec, skips=skips)
    tokens = 0
    with started(progress, "tokenize", total) as meter:
        for chunk in _chunks(documents):
            ids = tokenizer.encode_many([document.text for document in chunk])
            names = [document.name for document in chunk]
            table.add(names, ids, [document.utf8_bytes for document in chunk], write)
            tokens += sum(map(len, ids))
            meter.advance(sum(document.source_bytes for document in chunk), tokens=tokens)
    return table, skips


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
        names = (folder / "names.txt").read_text("utf-8").split("\n")
        counts = _mapped(folder / "documents.bin", np.dtype("<i8")).reshape(2, -1)
        tokens = _mapped(folder / "tokens.bin", np.dtype("<i4"))
        if counts[0].sum() != len(tokens) or not (
            len(names) == counts.shape[1] == meta["documents"]
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
        )
    except (EntrenarError, OSError, KeyError, TypeError, ValueError):
        return None  # a damaged cache is made again


def _is_whole(folder: Path, meta: Any) -> bool:
    return meta["schema"] == _SCHEMA and all(
        (folder / name).stat().st_size == meta["sizes"][name] for name in _FILES
    )


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)
