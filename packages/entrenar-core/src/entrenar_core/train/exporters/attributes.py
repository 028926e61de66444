"""What a training says of itself to others: its settings as flat attributes, without secrets."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from entrenar_core.train.trace import Attribute

__all__ = ["flattened", "is_private", "sendable"]

_LONGEST = 4096  # characters of a text, so that what waits to be sent stays small
_SECRETS = frozenset({
    "apikey", "auth", "authorization", "bearer", "cookie", "credential", "header", "key",
    "passphrase", "passwd", "password", "secret", "signature", "token",
})  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SECRET_VALUE = re.compile(
    r"//[^/\s]*@|[?&;][^=\s]*(key|token|secret|passw|signature|credential)[^=\s]*=", re.IGNORECASE
)


def is_private(name: str, value: Any) -> bool:
    """Whether an attribute looks as if it were nobody else's business: a text under a name with a
    word such as token, password or key, a number under a name that ends in one, or an address with
    a password in it. Counts of tokens are none.

    >>> is_private("hub.api_key", "x"), is_private("tokens", 512), is_private("tokenizer", "bpe")
    (True, False, False)
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return bool(words) and words[-1] in _SECRETS
    secret = any(word in _SECRETS or word.removesuffix("s") in _SECRETS for word in words)
    return secret or _SECRET_VALUE.search(str(value)) is not None


def sendable(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Those that are not private; long texts are cut."""
    return {
        name: value[:_LONGEST] if isinstance(value, str) else value
        for name, value in attributes.items()
        if not is_private(name, value)
    }


def flattened(settings: Mapping[str, Any], *, prefix: str) -> dict[str, Attribute]:
    """Nested settings, as JSON has them, by names with dots; without what is absent or private.

    >>> flattened({"steps": 3, "betas": [0.9, 0.95], "hub": {"token": "x"}}, prefix="settings.")
    {'settings.steps': 3, 'settings.betas': '[0.9, 0.95]'}
    """
    return sendable({prefix + name: value for name, value in _leaves("", settings)})


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Attribute]]:
    if isinstance(value, Mapping):
        inside = [(str(key), below) for key, below in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list) for v in value):
        inside = [(str(place), below) for place, below in enumerate(value)]
    else:
        if isinstance(value, list | tuple):
            yield name, json.dumps(value)
        elif value is not None:
            yield name, value if isinstance(value, str | int | float) else str(value)
        return
    for key, below in inside:
        yield from _leaves(f"{name}.{key}" if name else key, below)
