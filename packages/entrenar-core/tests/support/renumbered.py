"""A tokenizer whose tokens have other numbers, and a model to go with it."""

import copy
from typing import Any

import numpy as np

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer


def renumbered(tokenizer: Tokenizer, seed: int = 0) -> tuple[Tokenizer, np.ndarray]:
    """The same tokenizer with its tokens numbered at random, and the new id of each old one.

    Added tokens beyond the model's vocabulary keep their ids: the format wants them at the end.
    """
    content, config = tokenizer.to_json()
    content = copy.deepcopy(content)
    vocab = content["model"]["vocab"]
    size, total = len(vocab), tokenizer.vocab_size
    new = np.arange(total)
    new[:size] = np.random.default_rng(seed).permutation(size)
    content["model"]["vocab"] = _vocab(vocab, new)
    if content["model"].get("unk_id") is not None:
        content["model"]["unk_id"] = int(new[content["model"]["unk_id"]])
    for token in content["added_tokens"]:
        token["id"] = int(new[token["id"]])
    content["added_tokens"].sort(key=lambda token: token["id"])
    _post_processor(content["post_processor"], new)
    return Tokenizer.from_json(content, config, where="renumbered"), new


def renumbered_model(model: Any, new: np.ndarray) -> Any:
    """A copy of `model` in which the row n of each table is at new[n]; further rows stay."""
    copied = models.from_config(model.config.to_hf(), seed=9)
    rows = np.concatenate([new, np.arange(len(new), model.config.vocab_size)])
    for name, parameter in copied.named_parameters().items():
        source = model.named_parameters()[name].data
        if name.split(".")[-2] in ("embed_tokens", "wte", "lm_head"):
            parameter.data[rows] = source
        else:
            parameter.data[...] = source
    return copied


def _vocab(vocab: Any, new: np.ndarray) -> Any:
    if isinstance(vocab, dict):
        return {token: int(new[number]) for token, number in vocab.items()}
    moved: list[Any] = [None] * len(vocab)
    for number, entry in enumerate(vocab):
        moved[new[number]] = entry
    return moved


def _post_processor(part: Any, new: np.ndarray) -> None:
    if part is None:
        return
    for inner in part.get("processors", ()):
        _post_processor(inner, new)
    for end in ("sep", "cls"):
        if end in part:
            part[end] = [part[end][0], int(new[part[end][1]])]
    if part["type"] == "TemplateProcessing":
        for token in part["special_tokens"].values():
            token["ids"] = [int(new[number]) for number in token["ids"]]
