"""Where something is on the hub: `hf://org/name[@revision][/path/in/repo]`."""

import re
import unicodedata
from typing import NamedTuple
from urllib.parse import unquote

from entrenar_common.errors import ConfigError
from entrenar_common.text import escape_controls

HUB = "hf://"
FORM = "hf://org/name, hf://org/name@revision or hf://org/name/path/of/a/file"

# a branch with a slash in it is written with %2F, but for the names that the hub itself gives
_PARTS = re.compile(
    r"(?P<model>[^/@]+/[^/@]+)(@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(/(?P<path>.+))?",
    re.DOTALL,
)


class HubPlace(NamedTuple):
    """A model on the hub, at a revision, and a file or a folder in it; "" where that is not said.

    >>> parse_place("hf://org/name@v1.0/sub/model.gguf")
    HubPlace(model='org/name', revision='v1.0', path='sub/model.gguf')
    """

    model: str
    revision: str
    path: str

    def spec(self, path: str) -> str:
        """How another file of the same repository is written, or with "" the whole of it."""
        revision = f"@{self.revision.replace('/', '%2F')}" if self.revision else ""
        return escape_controls(f"{HUB}{self.model}{revision}" + (f"/{path}" if path else ""))


def parse_place(spec: str) -> HubPlace:
    """The parts of `hf://org/name[@revision][/path/in/repo]`; ConfigError for anything else."""
    from entrenar_core.io.hub_model import is_hub_name  # loads what speaks to the hub

    found = _PARTS.fullmatch(spec.removeprefix(HUB).removesuffix("/"))
    if found is None:
        raise _malformed(spec, "not a place on the hub")
    model, revision, path = found["model"], unquote(found["revision"] or ""), found["path"] or ""
    if not is_hub_name(model):
        raise _malformed(spec, f"'{escape_controls(model)}' is not a name on the hub")
    for what, text in (("a revision", revision), ("a path in a repository", path)):
        if text and not _is_path(text):
            raise _malformed(spec, f"'{escape_controls(text)}' is not {what}")
    return HubPlace(model, revision, path)


def _is_path(text: str) -> bool:
    """Whether it is names with slashes between them, none of which leads upwards."""
    controls = any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
    return not controls and {"", ".", ".."}.isdisjoint(text.split("/"))


def _malformed(spec: str, what: str) -> ConfigError:
    return ConfigError(f"{escape_controls(spec)}: {what}", hint=f"write it like {FORM}")
