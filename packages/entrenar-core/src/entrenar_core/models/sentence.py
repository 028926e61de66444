"""Sentence embeddings: the files of a sentence-transformers folder, and texts to vectors.

Such a folder has the encoder at its top, a `modules.json` that lists what comes after it, and a
folder with the settings of each of those. Anything that would change the vectors and is not known
here is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.autograd import no_grad
from entrenar_core.io import files
from entrenar_core.models.pooling import MODES, Pooling

OLD, NEW = "sentence_transformers.models", "sentence_transformers"
TYPES = {
    f"{OLD}.Transformer": "Transformer",
    f"{OLD}.Pooling": "Pooling",
    f"{OLD}.Normalize": "Normalize",
    f"{NEW}.base.modules.transformer.Transformer": "Transformer",
    f"{NEW}.sentence_transformer.modules.pooling.Pooling": "Pooling",
    f"{NEW}.base.modules.normalize.Normalize": "Normalize",
}
"""`type` in a modules.json, of old and new versions → what it is."""

OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How old versions say which pooling it is."""


@dataclass(frozen=True)
class SentenceSettings:
    """How texts become vectors: the pooling, and after how many tokens a text is cut (None: the
    model's positions decide)."""

    pooling: Pooling = field(default_factory=Pooling)
    max_tokens: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "SentenceSettings":
        """What the files in `folder` say; the mean, not normalised, where there is no modules.json.

        Raises FormatError for files that are no such thing, and UnsupportedError for a module, a
        pooling or a setting that is not computed here.
        """
        path = folder / "modules.json"
        if not path.is_file():
            return cls()
        kinds, folders = _modules(path)
        if kinds not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
            raise UnsupportedError(
                f"{path}: the modules {', '.join(kinds)} are not supported",
                hint="a Transformer, then Pooling, then Normalize or nothing is",
            )
        if folders[0]:
            raise UnsupportedError(
                f"{path}: the encoder lies in {escape_controls(folders[0])}",
                hint="give a folder that has the encoder's config.json at its top",
            )
        mode = _pooling_mode(folder / folders[1] / "config.json")
        if len(kinds) == 3:
            _check_normalize(folder / folders[2] / "config.json")
        _check_prompt(folder / "config_sentence_transformers.json")
        length = _max_tokens(folder / "sentence_bert_config.json")
        return cls(Pooling(mode, normalise=len(kinds) == 3), length)

    def cut_to(self, tokens: int) -> "SentenceSettings":
        """The same, where texts are cut after no more than so many tokens."""
        return replace(self, max_tokens=min(tokens, self.max_tokens or tokens))

    def to_files(self, width: int) -> dict[str, Any]:
        """The files, by name, from which `read` and sentence-transformers get these settings."""
        names = [name for name in TYPES if name.startswith(OLD)][: 2 + self.pooling.normalise]
        folders = ["", "1_Pooling", "2_Normalize"]
        found: dict[str, Any] = {
            "modules.json": [
                {"idx": i, "name": str(i), "path": folders[i], "type": name}
                for i, name in enumerate(names)
            ],
            "1_Pooling/config.json": {
                "word_embedding_dimension": width,
                **{key: mode == self.pooling.mode for key, mode in OLD_FLAGS.items()},
                "include_prompt": True,
            },
            "config_sentence_transformers.json": {
                "prompts": {},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
            },
            "sentence_bert_config.json": {
                "max_seq_length": self.max_tokens,
                "do_lower_case": False,
            },
        }
        if self.pooling.normalise:
            found["2_Normalize/config.json"] = {}
        return found


def _modules(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """The kinds and folders of the modules in a modules.json."""
    modules = files.read_json(path)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise FormatError(f"{path}: not a list of modules", hint="fetch or write the file again")
    kinds, folders = [], []
    for module in modules:
        kind, folder = module.get("type"), module.get("path")
        if kind not in TYPES:
            raise UnsupportedError(
                f"{path}: the module {escape_controls(str(kind))} is not supported",
                hint="Transformer, Pooling and Normalize are",
            )
        if not isinstance(folder, str) or not _is_plain(folder):
            raise FormatError(
                f"{path}: {escape_controls(str(folder))} is no folder beside it",
                hint="fetch or write the file again",
            )
        unknown = sorted(set(module) - {"idx", "name", "path", "type"})
        if unknown:
            raise UnsupportedError(
                f"{path}: {escape_controls(', '.join(unknown))} of a module is not supported",
                hint="only idx, name, path and type are",
            )
        kinds.append(TYPES[kind])
        folders.append(folder)
    return tuple(kinds), folders


def _is_plain(folder: str) -> bool:
    """Whether it is a single name, so that a file cannot lead outside of its folder."""
    return folder not in (".", "..") and not set(folder) & set("/\\\0")


def _settings(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, empty where there is no such file."""
    if not path.is_file():
        return {}
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise FormatError(f"{path}: not a JSON object", hint="fetch or write the file again")
    return found


def _refuse_others(path: Path, found: Mapping[str, Any], harmless: Mapping[str, Any]) -> None:
    """Every setting has to have the value in `harmless`; `...` there takes any."""
    for key, value in found.items():
        if key not in harmless or (harmless[key] is not ... and value != harmless[key]):
            raise UnsupportedError(
                f"{path}: {escape_controls(key)} {escape_controls(repr(value))} is not supported",
                hint="it could change the embeddings",
            )


def _pooling_mode(path: Path) -> str:
    found = _settings(path)
    if not found:
        raise FormatError(f"{path}: no settings of the pooling", hint="fetch the folder again")
    named = found.pop("pooling_mode", None)
    flags = {mode: found.pop(key, False) for key, mode in OLD_FLAGS.items()}
    chosen = [mode for mode, on in flags.items() if on] if named is None else named
    chosen = [chosen] if isinstance(chosen, str) else chosen or ["mean"]
    if not isinstance(chosen, list) or len(chosen) != 1 or chosen[0] not in MODES:
        raise UnsupportedError(
            f"{path}: pooling of mode {escape_controls(str(chosen))} is not supported",
            hint=f"one of {', '.join(MODES)} is",
        )
    widths = {"word_embedding_dimension": ..., "embedding_dimension": ...}
    _refuse_others(path, found, {**widths, "include_prompt": True})
    return chosen[0]


def _check_normalize(path: Path) -> None:
    found = _settings(path)
    name = "sentence_embedding"
    harmless = {"module_input_name": name, "module_output_name": name}
    _refuse_others(path, {k: v for k, v in found.items() if v is not None}, harmless)


def _check_prompt(path: Path) -> None:
    """A prompt that is put before every text would be missed."""
    name = _settings(path).get("default_prompt_name")
    if name is not None:
        raise UnsupportedError(
            f"{path}: default_prompt_name {escape_controls(str(name))} is not supported",
            hint="put the prompt before the texts yourself, and remove the key",
        )


def _max_tokens(path: Path) -> int | None:
    found = _settings(path)
    length = found.pop("max_seq_length", None)
    if length is not None and (type(length) is not int or length < 1):
        raise FormatError(
            f"{path}: max_seq_length is {escape_controls(repr(length))}",
            hint="it is a positive integer or null",
        )
    output = {"method": "forward", "method_output_name": "last_hidden_state"}
    _refuse_others(
        path,
        found,
        {
            "do_lower_case": False,
            "transformer_task": "feature-extraction",
            "module_output_name": "token_embeddings",
            "modality_config": {"text": output},
        },
    )
    return length


class TextEncoder(Protocol):
    """What `embed` wants of a tokenizer: `entrenar_core.data.tokenizer.Tokenizer` is one."""

    pad_id: int | None

    def encode_many(self, texts: Sequence[str]) -> Sequence[np.ndarray]:
        """The ids of every text, special tokens included."""
        ...


def embed(
    model: Any, tokenizer: TextEncoder, texts: Sequence[str], *, batch_size: int = 32
) -> np.ndarray:
    """The sentence embeddings (texts, D) by a model with the head "embedding".

    A text that is too long for the model, or for the `max_seq_length` of its sentence-transformers
    folder, is cut before its closing special tokens. Texts of similar length share a batch; that
    and `batch_size` decide the speed and nothing else.

    Raises ConfigError without texts, or when the tokenizer has no padding token.
    """
    if not len(texts) or batch_size < 1:
        raise ConfigError(
            f"embed: {len(texts)} texts in batches of {batch_size}",
            hint="give at least one of each",
        )
    if tokenizer.pad_id is None:
        raise ConfigError(
            "embed: the tokenizer has no padding token", hint="name one in tokenizer_config.json"
        )
    rows = _cut(tokenizer, tokenizer.encode_many(texts), _limit(model))
    order = np.argsort([-len(row) for row in rows], kind="stable")
    found: list[np.ndarray] = []
    with no_grad():
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask = _padded([rows[i] for i in chosen], tokenizer.pad_id)
            found.append(model(ids, mask).numpy())
    return np.concatenate(found)[np.argsort(order)]


def _limit(model: Any) -> int:
    positions, given = model.config.positions, model.sentence.max_tokens
    return positions if given is None else min(positions, given)


def _cut(tokenizer: TextEncoder, rows: Sequence[np.ndarray], limit: int) -> list[np.ndarray]:
    """`rows` of at most `limit` ids: of longer ones, the closing special tokens are kept."""
    if max(len(row) for row in rows) <= limit:
        return list(rows)
    around, one = tokenizer.encode_many(["", "a"])
    # of the special tokens, those at which the two begin to differ are behind the text
    equal = [i for i in range(len(around)) if np.array_equal(around[: i + 1], one[: i + 1])]
    closing = len(around) - len(equal)
    if len(around) >= limit:
        raise ConfigError(
            f"embed: {limit} positions, of which the tokenizer's special tokens take {len(around)}",
            hint="give max_seq_length room for the text",
        )
    return [
        row
        if len(row) <= limit
        else np.concatenate([row[: limit - closing], row[len(row) - closing :]])
        for row in rows
    ]


def _padded(rows: Sequence[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and mask (B, T) of rows of ids."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask
