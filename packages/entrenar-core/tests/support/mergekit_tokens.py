"""Models with tokenizers that differ, and what mergekit makes of their vocabularies."""

import copy
import json
from pathlib import Path

from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.merge.tokens import ModelTokens
from tokenizer_cases import CASES, Json
from varied_strings import SPECIAL, STRINGS

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def added(token: str, number: int, **settings: bool) -> Json:
    """An added token that is special, with the settings of most of those."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, "special": True} | plain | settings


def with_added(made: tuple[Json, Json], *tokens: str, **settings: bool) -> tuple[Json, Json]:
    """A tokenizer with more added tokens, after all others."""
    content, config = copy.deepcopy(made)
    known = set(content["model"]["vocab"].values()) | {t["id"] for t in content["added_tokens"]}
    for number, token in enumerate(tokens, max(known) + 1):
        content["added_tokens"].append(added(token, number, **settings))
    return content, config


def three() -> dict[str, tuple[Json, Json]]:
    """A base, and two that have other pieces, ids, added tokens and settings."""
    base = with_added(CASES["gpt-2"](400), "<|im_start|>", "<tool>")
    second = with_added(CASES["llama 3"](520), "<|im_end|>", "<tool>", lstrip=True)
    third = with_added(CASES["qwen 2"](460), "<tool>", "<|im_end|>", "the ", special=False)
    ordinary = (t for t in third[0]["model"]["vocab"] if t.isalpha() and t.isascii())
    third[1]["mask_token"] = next(t for t in ordinary if len(t) == 2)  # special by that alone
    second[1]["added_tokens_decoder"] = {"2": added("</s>", 2, rstrip=True)}
    return {"base": base, "second": second, "third": third}


def stripped() -> dict[str, tuple[Json, Json]]:
    """A base whose last four tokens have no row, one of them merged from others without one."""
    content, config = CASES["gpt-2"](400)
    content["model"]["vocab"] |= {"<u0>": 400, "<u1>": 401, "<u0><u1>": 402}
    content["model"]["merges"].append(["<u0>", "<u1>"])
    base = with_added((content, config), "<unused>")
    return {"base": base, "second": three()["second"], "third": CASES["train_bpe"](390)}


def kinds() -> dict[str, tuple[Json, Json]]:
    """Models of tokens that have nothing in common."""
    return {
        "base": with_added(CASES["llama 2"](400), "<tool>"),
        "second": CASES["bert uncased"](300),
        "third": CASES["roberta"](400),
    }


def four() -> dict[str, tuple[Json, Json]]:
    """Three that have tokens in common which the first one lacks."""
    small = {"base": CASES["gpt-2"](300), "fourth": CASES["gpt-4"](490)}
    return three() | small


SETS = {"byte-level": three, "stripped": stripped, "kinds": kinds, "four": four}
ROWS = {("byte-level", "second"): 7, ("stripped", "base"): -4, ("stripped", "second"): -1}
"""More or fewer rows than a model has tokens."""


def size_of(made: tuple[Json, Json]) -> int:
    """Rows that an embedding needs."""
    content = made[0]
    numbers = [*content["model"]["vocab"].values(), *(t["id"] for t in content["added_tokens"])]
    return max(numbers) + 1


def write(folder: Path, made: tuple[Json, Json], rows: int) -> Path:
    """A model's folder, without weights."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(made[0]), "utf-8")
    settings = made[1] | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": rows}), "utf-8")
    return folder


def tokens_of(folder: Path) -> ModelTokens:
    """What the merge takes of a folder."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return ModelTokens(load_tokenizer(folder), config["vocab_size"])


def texts() -> list[str]:
    """Texts in which the added tokens are too."""
    marks = ["<|im_start|>", "<|im_end|>", "<tool>", "</s>", "the", SPECIAL, "<s>", "new", "<new>"]
    inside = [f"a {mark} b{mark}  {mark}{mark} the end" for mark in marks]
    return [*STRINGS, *inside, " ".join(marks), "".join(marks)]


def assert_same_tokenizer(ours: Tokenizer, theirs, folder: Path) -> None:
    """That both have the same tokens, and give the same ids, ours when it was saved too."""
    import transformers

    theirs.save_pretrained(folder / "theirs")
    ours.save(folder / "ours")
    saved = [transformers.AutoTokenizer.from_pretrained(folder / n) for n in ("theirs", "ours")]
    assert saved[0].get_vocab() == saved[1].get_vocab() == theirs.get_vocab()
    assert ours.vocab_size == max(theirs.get_vocab().values()) + 1
    for text in texts():
        wanted = saved[0](text)["input_ids"]
        assert saved[1](text)["input_ids"] == wanted, text
        assert ours.encode(text).tolist() == wanted, text
