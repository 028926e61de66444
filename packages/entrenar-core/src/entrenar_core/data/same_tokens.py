"""Whether two tokenizers cut every text alike, whatever numbers they give to the tokens.

It is decided by what is in them and not by trying: everything that takes part in cutting a text has
to be equal once the numbers are replaced by the tokens that they stand for.
"""

from typing import Any

from entrenar_core.data.tokenizer import Tokenizer

__all__ = ["TokenIds", "difference", "token_ids"]

Json = dict[str, Any]
TokenIds = dict[str, int]

_NOT_COMPARED = ("vocab", "unk_id")
_ENDS = ("sep", "cls")


def token_ids(tokenizer: Tokenizer) -> TokenIds:
    """The id of every token of the model and of every added one, by its text."""
    content, _ = tokenizer.to_json()
    return _ids(content)


def difference(one: Tokenizer, other: Tokenizer) -> str | None:
    """What is not equal in two tokenizers but for the ids, in words; None where all of it is.

    Compared are the tokens, for Unigram with their scores, the merges in their order, all other
    settings of the model, the normalizer, the pre-tokenizer, what is put around a text, and the
    added tokens with their settings.
    """
    ours, theirs = (_Parts(tokenizer.to_json()[0]) for tokenizer in (one, other))
    only = ours.tokens.keys() ^ theirs.tokens.keys()
    if only:
        return f"{len(only)} tokens are in one and not in the other, such as {min(only)!a:.40}"
    for name, found in ours.compared.items():
        if found != theirs.compared[name]:
            return f"{name} differ"
    return None


class _Parts:
    """What is in a tokenizer.json: tokens with their ids, and the rest without numbers."""

    def __init__(self, content: Json) -> None:
        self.tokens = _ids(content)
        names = {number: token for token, number in self.tokens.items()}
        model, added = content["model"], content["added_tokens"]
        settings = {k: v for k, v in model.items() if k not in _NOT_COMPARED and k != "merges"}
        normalizer = content["normalizer"]
        self.compared: Json = {
            "scores of tokens": _scores(model),
            "merges": model.get("merges"),
            "settings of the models": settings,
            "normalizers": normalizer,
            "pre-tokenizers": content["pre_tokenizer"],
            "added tokens": {
                t["content"]: {k: v for k, v in t.items() if k != "id"} for t in added
            },
            # two of these may look alike once they are normalized: then the first one is found
            "orders of added tokens": normalizer
            and [t["content"] for t in sorted(added, key=lambda t: t["id"]) if t["normalized"]],
            "tokens around a text": _around(content["post_processor"], names),
        }


def _ids(content: Json) -> TokenIds:
    vocab = content["model"]["vocab"]
    if not isinstance(vocab, dict):  # Unigram has a list of pieces and scores
        vocab = {piece: number for number, (piece, _) in enumerate(vocab)}
    return {**vocab, **{token["content"]: token["id"] for token in content["added_tokens"]}}


def _scores(model: Json) -> Any:
    """The scores of Unigram's pieces, of which one stands for what is unknown."""
    pieces = model["vocab"]
    if isinstance(pieces, dict):
        return None
    if len({piece for piece, _ in pieces}) < len(pieces):
        return pieces  # which of two equal ones is meant depends on the order
    unknown = model.get("unk_id")
    return dict(pieces), None if unknown is None else pieces[unknown][0]


def _around(processor: Json | None, names: dict[int, str]) -> Any:
    """A post-processor with tokens in place of ids; parts that change offsets only are left out."""
    if processor is None or processor["type"] == "ByteLevel":
        return None
    if processor["type"] == "Sequence":
        parts = [_around(part, names) for part in processor["processors"]]
        return [part for part in parts if part is not None] or None
    found = dict(processor)
    for end in _ENDS:
        if end in found:
            token, number = found[end]
            found[end] = [token, names.get(number, number)]
    if processor["type"] == "TemplateProcessing":
        found["special_tokens"] = {
            name: {**token, "ids": [names.get(number, number) for number in token["ids"]]}
            for name, token in found["special_tokens"].items()
        }
    return found
