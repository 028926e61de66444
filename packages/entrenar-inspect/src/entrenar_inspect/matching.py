"""Which tensor of one model is which of another, whatever formats and wrappers call it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_inspect.artifact import GGUF, Artifact, Entry, Reader

WRAPPERS = (
    "model.", "transformer.", "bert.", "roberta.", "distilbert.", "base_model.model.", "module.",
    "_orig_mod.",
)  # fmt: skip
"""What modules around a model put before its tensors' names; both sides may have one of them."""

DEEPEST = 3
"""Parts of a prefix that is looked for in the names."""


class Side:
    """One of two models, its tensors under the names by which they are compared.

    artifact: what it was opened as; entries: what each tensor is, by that name; an entry's own name
    is what the files call it. `config` has the keys of the config.
    """

    def __init__(
        self, artifact: Artifact, entries: Mapping[str, Entry], reader: Reader | Any
    ) -> None:
        self.artifact, self.entries, self._reader = artifact, dict(entries), reader
        self.config: Mapping[str, Any] = artifact.config
        self._read_as = {name: name for name in self.entries}

    def renamed(self, names: Mapping[str, str]) -> None:
        """Call tensors by other names: `names` has the new one of each old one."""
        self.entries = {names[name]: entry for name, entry in self.entries.items()}
        self._read_as = {names[name]: old for name, old in self._read_as.items()}

    def read(self, name: str) -> Any:
        """The values of a tensor: an array, or `quant.Stored` or `kernels.Held` ones."""
        return self._reader.read(self._read_as[name])

    def release(self, name: str) -> None:
        """Let the pages of a tensor that was read go."""
        self._reader.release(self._read_as[name])

    def close(self) -> None:
        """Close what was opened besides the artifact."""
        if self._reader is not self.artifact:
            self._reader.close()


class _AsHuggingFace:
    """A GGUF file's tensors in Hugging Face's layout; matrices stay in their blocks."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights
        self.release, self.close = weights.release, weights.close

    def read(self, name: str) -> Any:
        held = self._weights.held(name)
        return self._weights.read(name) if held is None else held


def sides_of(a: Artifact, b: Artifact) -> tuple[Side, Side, list[str]]:
    """Both models under names in common, and in words what was done for that.

    A GGUF file beside another format gets Hugging Face's names and layout, where its family is
    known; then the pair of prefixes is left out without which most names are equal.
    """
    notes: list[str] = []
    translated = (a.kind == GGUF) != (b.kind == GGUF)
    one, other = (
        _translated(artifact, notes)
        if translated and artifact.kind == GGUF
        else Side(artifact, artifact.tensors, artifact)
        for artifact in (a, b)
    )
    _leave_out_prefixes(one, other, notes)
    return one, other, notes


def _translated(artifact: Artifact, notes: list[str]) -> Side:
    """A GGUF file under Hugging Face's names; as it is where that cannot be."""
    if artifact.model is None or artifact.is_remote:
        notes.append(
            f"{artifact.spec} is compared by its own names: only a local file is translated"
        )
        return Side(artifact, artifact.tensors, artifact)
    from entrenar_core.models.source import GGUFWeights  # what plain comparisons need not load

    try:
        weights = GGUFWeights(artifact.model)
    except (FormatError, UnsupportedError, ConfigError) as error:
        notes.append(f"{artifact.spec} is compared by its own names: {error}")
        return Side(artifact, artifact.tensors, artifact)
    side = Side(artifact, _entries(artifact, weights), _AsHuggingFace(weights))
    side.config = weights.raw
    notes.append(f"{artifact.spec}: names and layout are translated to Hugging Face's")
    return side


def _entries(artifact: Artifact, weights: Any) -> dict[str, Entry]:
    found = {}
    for name in weights.names():
        stored, info = weights.stored_name(name), weights.info(name)
        if stored is not None:
            found[name] = replace(artifact.tensors[stored], name=stored, shape=tuple(info.shape))
        # a tensor that follows from the config has no entry: it is in no file
    return found


def _leave_out_prefixes(a: Side, b: Side, notes: list[str]) -> None:
    one, other = prefixes(a.entries, b.entries)
    for side, prefix in ((a, one), (b, other)):
        if prefix:
            side.renamed(without_prefix(side.entries, prefix))
            notes.append(f"names of {side.artifact.spec} are compared without '{prefix}'")


def prefixes(a: Iterable[str], b: Iterable[str]) -> tuple[str, str]:
    """The prefixes of names of `a` and of `b` without which most of them are equal, "" for none.

    One of them is empty, or both are known WRAPPERS, or several of those.

    >>> prefixes(["model.norm.weight", "lm_head.weight"], ["norm.weight"])
    ('model.', '')
    """
    a, b = list(a), list(b)

    def matches(pair: tuple[str, str]) -> tuple[int, int]:
        one, other = (set(without_prefix(n, p).values()) for n, p in zip((a, b), pair, strict=True))
        return len(one & other), -len("".join(pair))

    pairs = [pair for pair in product(_candidates(a), _candidates(b)) if _plausible(*pair)]
    return max(pairs, key=matches)


def _candidates(names: list[str]) -> list[str]:
    """No prefix, known ones, and such as half of the names have."""
    count: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        for depth in range(1, min(DEEPEST, len(parts)) + 1):
            if parts[depth - 1].isdigit():
                break
            count[".".join(parts[:depth]) + "."] += 1
    return ["", *(p for p, n in count.items() if 2 * n >= len(names) or _is_wrapper(p))]


def _plausible(one: str, other: str) -> bool:
    return not one or not other or (_is_wrapper(one) and _is_wrapper(other))


def _is_wrapper(prefix: str) -> bool:
    """Whether a prefix is made of WRAPPERS alone."""
    while prefix:
        found = next((w for w in WRAPPERS if prefix.startswith(w)), None)
        if found is None:
            return False
        prefix = prefix.removeprefix(found)
    return True


def without_prefix(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Each name without the prefix, where it has it and no other name is the rest of it."""
    names = list(names)
    taken = set(names)

    def short(name: str) -> str:
        rest = name.removeprefix(prefix)
        return name if rest in taken else rest

    return {name: short(name) for name in names}
