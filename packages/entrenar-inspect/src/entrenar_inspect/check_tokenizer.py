"""Whether every token has a row of the embedding."""

from collections.abc import Iterator, Mapping
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import GGUF
from entrenar_inspect.check_ties import embedding_of
from entrenar_inspect.finding import Finding, Looked, Skipped, broken
from entrenar_inspect.metadata import length, whole
from entrenar_inspect.subject import Subject

FILE = "tokenizer.json"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_GGUF_SPECIAL = {
    f"tokenizer.ggml.{role}_token_id": role for role in ("bos", "eos", "padding", "unknown")
}


def check_tokenizer(subject: Subject) -> Looked | Skipped:
    """The ids of tokens and of special tokens, against the rows of the embedding."""
    artifact = subject.artifact
    if artifact is None:
        return Skipped("not every file opens")
    embedding = embedding_of(artifact)
    rows = embedding.shape[0] if embedding is not None and len(embedding.shape) == 2 else None
    if artifact.kind == GGUF:
        return _of_gguf(artifact.metadata, rows)
    if subject.given is not None and not artifact.config:
        return Skipped("a file by itself")
    return _of_folder(subject, rows)


def _of_gguf(metadata: Mapping[str, Any], rows: int | None) -> Looked | Skipped:
    tokens = length(metadata, "tokenizer.ggml.tokens")
    if tokens is None or rows is None:
        return Skipped("no tokenizer in the file")
    found = []
    if tokens > rows:
        message = f"{tokens} tokens, and token_embd.weight has {rows} rows"
        found.append(broken("V301", message, tensor="token_embd.weight"))
    ids = {key: whole(metadata, key) for key in _GGUF_SPECIAL}
    found += _special(ids, rows, "metadata")
    return Looked(f"{tokens:,} tokens for {rows:,} rows", found)


def _of_folder(subject: Subject, rows: int | None) -> Looked | Skipped:
    try:
        ids = _ids(subject.beside(FILE))
    except EntrenarError as error:
        return Looked(FILE, [broken("V303", escape_controls(str(error)), file=FILE)])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        message = f"{FILE} has no vocabulary: {type(error).__name__}"
        return Looked(FILE, [broken("V303", message, file=FILE)])
    if rows is None:
        return Skipped("no embedding of tokens")
    found = list(_special_of_configs(subject, rows))
    beyond = {token: number for token, number in ids.items() if number >= rows}
    if beyond:
        token, number = max(beyond.items(), key=lambda item: item[1])
        message = f"{len(beyond)} tokens have ids beyond the {rows} rows of the embedding: "
        message += f"'{escape_controls(token[:40])}' is {number}"
        found.append(broken("V301", message, file=FILE, place=f"id {number}"))
    if not ids:
        return Looked(f"no {FILE}; special tokens for {rows:,} rows", found)
    return Looked(f"{len(ids):,} tokens for {rows:,} rows", found)


def _ids(value: Any) -> dict[str, int]:
    """Every token's id, by the token.

    Raises what Python raises where a tokenizer.json is not as the tokenizers library writes it.
    """
    if value is None:
        return {}
    vocabulary = value["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of a piece and its score
        found = {str(piece): number for number, (piece, _) in enumerate(vocabulary)}
    else:
        found = {str(token): int(number) for token, number in vocabulary.items()}
    for token in value.get("added_tokens") or ():
        found[str(token["content"])] = int(token["id"])
    return found


def _special_of_configs(subject: Subject, rows: int) -> Iterator[Finding]:
    for name in ("config.json", "generation_config.json"):
        try:
            config = subject.beside(name)
        except EntrenarError:  # the header's check has it
            continue
        if isinstance(config, dict):
            yield from _special({key: config.get(key) for key in _SPECIAL}, rows, name)


def _special(ids: Mapping[str, Any], rows: int, where: str) -> Iterator[Finding]:
    for key, value in ids.items():
        for number in value if isinstance(value, list) else [value]:
            if type(number) is int and number >= rows:
                message = f"{key} is {number}, and the embedding has {rows} rows"
                yield broken("V302", message, place=f"{where}: {key}")
