"""The names of tensors: blocks and their numbers, and what adapters add."""

import re

_NUMBER = re.compile(r"(?:(?<=\.)|^)[0-9]{1,7}(?=\.)")
_LOW_RANK = re.compile(r"(?:\.|^)lora_(?:[ABab]|embedding_A|embedding_B|magnitude_vector)(?:\.|$)")
WRAPPED = ".base_layer."
"""What PEFT puts into the name of a matrix that has an adapter."""


def block_of(name: str) -> tuple[str, int, str] | None:
    """A tensor's name as (what is before the block's number, the number, what is after it).

    None for what is in no block. The first number counts: experts are inside of blocks.

    >>> block_of("model.layers.3.self_attn.q_proj.weight")
    ('model.layers', 3, 'self_attn.q_proj.weight')
    >>> block_of("blk.3.attn_q.weight"), block_of("model.embed_tokens.weight")
    (('blk', 3, 'attn_q.weight'), None)
    """
    found = _NUMBER.search(name)
    while found is not None and not found.start():  # a module of a list, not a block
        found = _NUMBER.search(name, found.end())
    if found is None:
        return None
    return name[: found.start() - 1], int(found[0]), name[found.end() + 1 :]


def pattern_of(name: str) -> str:
    """A tensor's name with {} in place of each number.

    >>> pattern_of("model.layers.3.mlp.experts.11.w1.weight")
    'model.layers.{}.mlp.experts.{}.w1.weight'
    """
    return _NUMBER.sub("{}", name)


def is_of_adapter(name: str) -> bool:
    """Whether it is a part of a low-rank update."""
    return "lora_" in name and _LOW_RANK.search(name) is not None
