"""Which tokenizer the merged model gets, and where the rows of its tokens come from."""

from collections.abc import Mapping
from typing import Any, Literal

from entrenar_core.io.yaml_file import KeyPath
from entrenar_core.merge.problems import Problems, shown
from entrenar_core.merge.reference import ModelRef, read_reference
from entrenar_core.merge.token_choice import ModelToken, TokenChoice, TokenizerChoice, Zero


def choice_models(choice: TokenizerChoice) -> list[ModelRef]:
    """The models whose embeddings the rules of a choice take."""
    sources = [rule.source for rule in choice.tokens.values()]
    owners = [s.model if isinstance(s, ModelToken) else s for s in sources]
    return [owner for owner in owners if isinstance(owner, ModelRef)]


def read_tokenizer(keys: Mapping[str, Any], problems: Problems) -> TokenizerChoice | None:
    """The choice in a config's `tokenizer_source` or `tokenizer`; None where there is neither."""
    if "tokenizer_source" in keys and "tokenizer" in keys:
        problems.add(
            ("tokenizer",),
            "is given besides tokenizer_source",
            hint="keep one of the two: tokenizer.source says what tokenizer_source does",
        )
    if "tokenizer" in keys:
        return _from_section(keys["tokenizer"], problems)
    if "tokenizer_source" in keys:
        source = _source(keys["tokenizer_source"], ("tokenizer_source",), problems)
        return TokenizerChoice(source) if source else None
    return None


def _from_section(value: Any, problems: Problems) -> TokenizerChoice | None:
    path = ("tokenizer",)
    keys = problems.section(value, path, ("source", "tokens", "pad_to_multiple_of"))
    source = _source(keys.get("source", "union"), (*path, "source"), problems)
    multiple = keys.get("pad_to_multiple_of")
    if multiple is not None and not _is_whole(multiple, least=1):
        problems.add(
            (*path, "pad_to_multiple_of"),
            f"must be a whole number of at least 1, not {shown(multiple)}",
        )
    tokens = keys.get("tokens", {})
    if not isinstance(tokens, dict):
        problems.add(
            (*path, "tokens"),
            f"must be a section of tokens, not {shown(tokens)}",
            hint='write "<token>": {source: ...}',
        )
        tokens = {}
    rules = {
        token: _rule(given, (*path, "tokens", token), problems) for token, given in tokens.items()
    }
    is_whole = multiple is None or _is_whole(multiple, least=1)
    return TokenizerChoice(source, rules, multiple) if source and is_whole else None


def _source(
    value: Any, path: KeyPath, problems: Problems
) -> ModelRef | Literal["union", "base"] | None:
    if value == "union":
        return "union"
    if value == "base":
        return "base"
    return read_reference(value, path, problems)


def _rule(value: Any, path: KeyPath, problems: Problems) -> TokenChoice:
    keys = problems.section(value, path, ("source", "force"))
    force = keys.get("force", False)
    if not isinstance(force, bool):
        problems.add((*path, "force"), f"must be true or false, not {shown(force)}")
    source = keys.get("source")
    if source is None:
        return TokenChoice(None, bool(force))
    place = (*path, "source")
    if isinstance(source, dict) and "kind" in source:
        return TokenChoice(_kind(source, place, problems), bool(force))
    return TokenChoice(read_reference(source, place, problems), bool(force))


def _kind(value: dict[str, Any], path: KeyPath, problems: Problems) -> ModelToken | Zero | None:
    if value["kind"] == "zero":
        problems.section(value, path, ("kind",))
        return Zero()
    if value["kind"] != "model_token":
        problems.add((*path, "kind"), f"must be model_token or zero, not {shown(value['kind'])}")
        return None
    keys = problems.section(value, path, ("kind", "model", "token", "token_id"))
    if ("token" in keys) == ("token_id" in keys):
        problems.add(path, "must have either token or token_id")
        return None
    token, number = keys.get("token"), keys.get("token_id")
    if token is not None and not isinstance(token, str):
        problems.add((*path, "token"), f"must be text, not {shown(token)}")
    if number is not None and not _is_whole(number, least=0):
        problems.add((*path, "token_id"), f"must be a whole number, not {shown(number)}")
    if "model" not in keys:
        problems.add((*path, "model"), "is missing")
        return None
    model = read_reference(keys["model"], (*path, "model"), problems)
    return ModelToken(model, token, number) if model else None


def _is_whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
