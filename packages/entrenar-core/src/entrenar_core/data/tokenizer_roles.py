"""Which tokens have a part to play, as the files beside a tokenizer.json say."""

from pathlib import Path
from typing import Any

import tokenizers

from entrenar_common.errors import FormatError
from entrenar_core.io import files

__all__ = ["ROLES", "SPECIAL_MAP", "all_named", "named", "read_object", "read_special"]

ROLES = ("bos", "eos", "pad", "mask")
SPECIAL_MAP = "special_tokens_map.json"


def read_special(
    folder: Path, inner: tokenizers.Tokenizer
) -> tuple[dict[str, str], dict[str, Any]]:
    """The tokens with a role as the folder's files say, by role, and tokenizer_config.json
    itself."""
    config = read_object(folder / "tokenizer_config.json")
    model = read_object(folder / "config.json")
    special: dict[str, str] = {}
    for role in ROLES:
        for source in (config, read_object(folder / SPECIAL_MAP)):
            token = named(source, role)
            if token is not None:
                special.setdefault(role, token)
        number = model.get(f"{role}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if role not in special and isinstance(number, int) and number >= 0:
            token = inner.id_to_token(number)
            if token is not None:
                special[role] = token
    return special, config


def named(config: dict[str, Any], role: str) -> str | None:
    """The token that a tokenizer_config.json or special_tokens_map.json names for a role."""
    token = config.get(f"{role}_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def all_named(config: dict[str, Any]) -> dict[str, str]:
    """What `config` calls something_token, as transformers' tokenizers do."""
    roles = [key.removesuffix("_token") for key in config if key.endswith("_token")]
    return {f"{role}_token": token for role in roles if (token := named(config, role)) is not None}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is none."""
    if not path.is_file():
        return {}
    value = files.parse_json(files.read_text(path), path, parse_int=_integer)
    if not isinstance(value, dict):
        raise FormatError(f"{path}: not a JSON object", hint="fetch or write the file again")
    return value


def _integer(text: str) -> int:
    if len(text) > 40:  # transformers writes "no limit" as 10³⁰, so int64 is not enough here
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)
