"""The tokenizer of the result, from those of the models."""

from collections.abc import Mapping
from dataclasses import dataclass

from entrenar_common.errors import ConfigError, NotFoundError, ShapeError
from entrenar_common.text import escape_controls
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.merge.token_choice import ModelKey, TokenizerChoice
from entrenar_core.merge.tokenizer_content import TokenizerContent, added_entry


@dataclass(frozen=True, eq=False)
class ModelTokens:
    """A model's tokenizer, if it has one, and how many rows its embedding has (vocab_size)."""

    tokenizer: Tokenizer | None
    rows: int


@dataclass(frozen=True, eq=False)
class MergedTokens:
    """The tokenizer of the result and its tokens with their ids; the same of each model (those
    of the base for a model without a tokenizer), and how many rows each embedding has."""

    tokenizer: Tokenizer
    vocabulary: Mapping[str, int]
    models: Mapping[ModelKey, Mapping[str, int]]
    rows: Mapping[ModelKey, int]
    notes: tuple[str, ...] = ()


def merged_tokens(
    models: Mapping[ModelKey, ModelTokens],
    choice: TokenizerChoice,
    *,
    base: ModelKey | None = None,
) -> MergedTokens:
    """The tokenizer that `choice` describes, for `models` in their order.

    The base is the first model where none is given; of its tokens, those without a row are taken
    out. A union is the base's tokenizer, to which the ordinary tokens of the other models are
    added, then the added tokens of all of them; the settings of an added token are those of the
    first model that has it. Tokens without a row are left out of it. As mergekit 0.1.5 does it,
    whose order of the ordinary tokens is a new one every time: here it is that of their ids.

    Raises ConfigError for a model that is not there, NotFoundError for a base without a tokenizer,
    ShapeError for another model without one whose embedding has other rows, and UnsupportedError.
    """
    base = next(iter(models), None) if base is None else base
    _check(models, choice, base)
    notes: list[str] = []
    contents = _contents(models, base, notes)
    if lost := contents[base].strip(models[base].rows):
        notes.append(
            f"{contents[base].where}: its tokens for {', '.join(lost)} have no row in the "
            "embedding, and the result has no such tokens"
        )
    vocabularies = {key: contents.get(key, contents[base]).vocabulary for key in models}
    source = contents.get(base if choice.source in ("base", "union") else choice.source)
    out = contents[base] if source is None else source
    if choice.source == "union":
        _unite(out, contents, models)
    known = out.vocabulary
    out.add(added_entry(token) for token in choice.tokens if token not in known)
    return MergedTokens(
        out.tokenizer(),
        out.vocabulary,
        vocabularies,
        {key: model.rows for key, model in models.items()},
        tuple(notes),
    )


def _check(
    models: Mapping[ModelKey, ModelTokens], choice: TokenizerChoice, base: ModelKey | None
) -> None:
    wanted = [base] if choice.source in ("base", "union") else [base, choice.source]
    for key in wanted:
        if key not in models:
            raise ConfigError(
                f"the tokenizer of {escape_controls(str(key))} is wanted, which is no model of the "
                "merge",
                hint=f"there are {', '.join(escape_controls(str(m)) for m in models) or 'none'}",
            )


def _contents(
    models: Mapping[ModelKey, ModelTokens], base: ModelKey, notes: list[str]
) -> dict[ModelKey, TokenizerContent]:
    """Those of the models that have a tokenizer, the base's first."""
    found: dict[ModelKey, TokenizerContent] = {}
    for key in [base, *(key for key in models if key != base)]:
        label, model = escape_controls(str(key)), models[key]
        if model.tokenizer is not None:
            found[key] = TokenizerContent(model.tokenizer, label)
        elif key == base:
            raise NotFoundError(
                f"{label}: the base has no tokenizer",
                hint="add its tokenizer.json, or merge without choosing a tokenizer",
            )
        elif model.rows != models[base].rows:
            raise ShapeError(
                f"{label}: there is no tokenizer, and its embedding has {model.rows} rows where "
                f"that of the base has {models[base].rows}, so its tokens are not the base's",
                hint="add its tokenizer.json",
            )
        else:
            notes.append(f"{label}: there is no tokenizer; its tokens are taken to be the base's")
    return found


def _unite(
    out: TokenizerContent,
    contents: Mapping[ModelKey, TokenizerContent],
    models: Mapping[ModelKey, ModelTokens],
) -> None:
    ordinary: dict[str, None] = {}
    added: dict[str, dict] = {}
    for key, content in contents.items():
        rows = models[key].rows
        for token, number in content.vocabulary.items():
            if number >= rows:
                continue
            if token in content.added:
                added.setdefault(token, content.added[token])
            else:
                ordinary.setdefault(token)
    known = out.vocabulary
    out.add(added_entry(t) for t in ordinary if t not in added and t not in known)
    out.add([*added.values()])
