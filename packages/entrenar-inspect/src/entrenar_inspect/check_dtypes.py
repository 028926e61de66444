"""Whether tensors have the type of elements that their like have, and that the config says."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import GGUF, SAFETENSORS, Artifact, Entry
from entrenar_inspect.finding import Finding, broken
from entrenar_inspect.stacks import stacks_of

_FLOATS = ("F16", "BF16", "F32", "F64")
_SAME_WIDTH = {"F16": "BF16", "BF16": "F16"}
"""Types that are taken for each other without that anything else in a header were wrong."""
_NAMES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
_LEAST = 3
_MOST = 0.25
"""The share of tensors that may be of another type and still stand out."""


def dtype_findings(artifact: Artifact) -> list[Finding]:
    """Tensors whose type stands out; types of a GGUF file are chosen tensor by tensor."""
    if artifact.kind == GGUF:
        return []
    stated = _stated(artifact.config)
    found = list(_unlike_their_kind(artifact, stated))
    found += _unlike_the_rest(artifact, stated, {finding.tensor for finding in found})
    found += _unlike_the_config(artifact, stated)
    return found


def _stated(config: Mapping[str, Any]) -> str | None:
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        name = part.get("dtype") or part.get("torch_dtype")
        if isinstance(name, str):
            return _NAMES.get(name.removeprefix("torch."))
    return None


def _unlike_their_kind(artifact: Artifact, stated: str | None) -> Iterator[Finding]:
    """Tensors of another type than the tensors of the same name in the other blocks."""
    for stack in stacks_of(artifact):
        for rest, of_block in stack.kinds().items():
            counts = Counter(entry.dtype for entry in of_block.values())
            usual, most = counts.most_common(1)[0]
            odd = len(of_block) - most
            if usual not in _FLOATS or len(of_block) < _LEAST or odd > len(of_block) * 0.4:
                continue
            for entry in of_block.values():
                if entry.dtype != usual and _misread(entry.dtype):
                    of = f"{escape_controls(rest)} of the other blocks is"
                    yield _finding(entry, usual, of, stated)


def _misread(dtype: str) -> bool:
    """Whether floats may have become this type; 8 bits are a choice, made for some blocks."""
    return dtype in (*_FLOATS, "I16", "U16", "I32", "U32", "I64", "U64")


def _unlike_the_rest(
    artifact: Artifact, stated: str | None, known: set[str | None]
) -> Iterator[Finding]:
    """The few tensors of one 16-bit type where all others are of the other one."""
    if artifact.config.get("quantization_config"):
        return  # its scales have a type of their own
    halves = [entry for entry in artifact.tensors.values() if entry.dtype in _SAME_WIDTH]
    counts = Counter(entry.dtype for entry in halves)
    if len(counts) < 2:
        return
    usual, most = counts.most_common(1)[0]
    if len(halves) - most > _MOST * len(halves):
        return
    for entry in halves:
        if entry.dtype != usual and entry.name not in known:
            yield _finding(entry, usual, f"{most} other tensors are", stated)


def _finding(entry: Entry, usual: str, of: str, stated: str | None) -> Finding:
    rule = "V223" if stated == usual else "V222"
    message = f"{escape_controls(entry.name)} is {entry.dtype}, {of} {usual}"
    message += ", as the config says" if stated == usual else ""
    return broken(rule, message, tensor=entry.name, file=entry.file)


def _unlike_the_config(artifact: Artifact, stated: str | None) -> Iterator[Finding]:
    """Whether the file is of the other 16-bit type than the config says: one of them misreads."""
    counts = Counter(entry.dtype for entry in artifact.tensors.values() if entry.elements > 1)
    if artifact.kind != SAFETENSORS or stated not in _SAME_WIDTH or not counts:
        return
    usual, most = counts.most_common(1)[0]
    if usual == _SAME_WIDTH[stated]:
        message = f"config.json says {stated}, {most} tensors are {usual}: read as the other, "
        yield broken("V224", f"{message}values are wrong", place="config.json")
