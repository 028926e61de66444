"""Whether all parts of a matrix in few bits are there, where it is stored as several tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import Artifact
from entrenar_inspect.finding import Finding, broken

_PARTS: dict[str, tuple[str, ...]] = {
    ".quant_state.bitsandbytes__nf4": ("", ".absmax", ".quant_map"),
    ".quant_state.bitsandbytes__fp4": ("", ".absmax", ".quant_map"),
    ".absmax": ("", ".quant_map"),
    ".nested_absmax": ("", ".absmax", ".nested_quant_map"),
    ".nested_quant_map": ("", ".nested_absmax"),
    ".SCB": (".weight",),
    ".qweight": (".scales",),
    ".qzeros": (".qweight", ".scales"),
    ".g_idx": (".qweight", ".scales"),
}
"""What the name of a part ends with → the parts that then have to be there too. Sources:
bitsandbytes' `functional.py` and `nn/modules.py`, AutoGPTQ's and AutoAWQ's linear layers."""


def part_findings(artifact: Artifact) -> Iterator[Finding]:
    """Parts that are missing, each once."""
    told: set[str] = set()
    for name, entry in artifact.tensors.items():
        for wanted in _wanted(name, artifact.config):
            if wanted not in artifact.tensors and wanted not in told:
                told.add(wanted)
                message = f"{escape_controls(wanted)} is missing, {escape_controls(name)} needs it"
                yield broken("V221", message, tensor=wanted, file=entry.file)
    yield from _without_scale(artifact, told)


def _wanted(name: str, config: Mapping[str, Any]) -> Iterator[str]:
    for end, parts in _PARTS.items():
        if name.endswith(end) and (end != ".absmax" or not name.endswith(".nested_absmax")):
            stem = name.removesuffix(end)
            yield from (stem + part for part in parts)
            if end == ".qweight" and _method(config) == "gptq":
                yield stem + ".qzeros"


def _method(config: Mapping[str, Any]) -> str | None:
    settings = config.get("quantization_config")
    found = settings.get("quant_method") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else None


def _without_scale(artifact: Artifact, told: set[str]) -> Iterator[Finding]:
    """Codes of bitsandbytes, a column of bytes, that nothing belongs to."""
    if _method(artifact.config) != "bitsandbytes":
        return
    for name, entry in artifact.tensors.items():
        packed = entry.dtype == "U8" and len(entry.shape) == 2 and entry.shape[1] == 1
        if packed and f"{name}.absmax" not in artifact.tensors and f"{name}.absmax" not in told:
            message = f"{escape_controls(name)} is packed, and its absmax is missing"
            yield broken("V221", message, tensor=f"{name}.absmax", file=entry.file)
