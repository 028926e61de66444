"""A language model whose token ids are numbered anew."""

import dataclasses
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def relabel(model: Any, order: np.ndarray) -> None:
    """Give the id n to what had the id order[n] before, in place.

    The rows of the embedding and of the output projection are brought into the new order once, one
    table at a time, so that afterwards nothing is mapped: hidden states and logits are those of the
    old ids. Raises ConfigError for an order (V,) that is no permutation of the model's ids.
    """
    rows = model.config.vocab_size
    if not np.array_equal(np.sort(order), np.arange(rows)):
        raise ConfigError(
            f"{len(order)} numbers are no new order of the model's {rows} ids",
            hint="give each id from 0 once",
        )
    tables = {id(w): w for w in (model.input_embedding.weight, model.output_weight)}
    for weight in tables.values():
        weight.data = weight.data[order]
    new = np.argsort(order)  # the new id of each old one
    config, embedding = model.config, model.input_embedding
    if embedding.padding is not None:
        embedding.padding = int(new[embedding.padding])
    named = {name: _moved(getattr(config, name), new) for name in _SPECIAL}
    model.config = dataclasses.replace(config, **named)


def _moved(value: Any, new: np.ndarray) -> Any:
    if isinstance(value, list):
        return [_moved(each, new) for each in value]
    return int(new[value]) if isinstance(value, int) and 0 <= value < len(new) else value
