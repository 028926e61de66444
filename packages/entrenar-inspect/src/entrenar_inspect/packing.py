"""How formats of few bits pack a weight into tensors, and what it is without that.

Each stores one matrix as several tensors. Shape and number of elements are found from names and
shapes alone, for bitsandbytes from a few bytes as well. Sources: bitsandbytes' `functional.py`
(QuantState) and `nn/modules.py` (SCB), AutoGPTQ's and AutoAWQ's packing of linear layers,
compressed-tensors' `pack_quantized`, transformers' `mxfp4.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from entrenar_common.errors import EntrenarError
from entrenar_core.io.strict_json import parse_json
from entrenar_inspect.artifact import Artifact, Entry

WORD = 32
"""Bits of the integers that GPTQ, AWQ and compressed-tensors pack their codes into."""

_STATES = {".quant_state.bitsandbytes__nf4": "NF4", ".quant_state.bitsandbytes__fp4": "FP4"}
_STORED_AS = 8
"""Bytes of the largest type that bitsandbytes stores codes as."""
_OF_STATE = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")


@dataclass(frozen=True)
class Weight:
    """What a model learned under a name.

    dtype: of what is stored, such as BF16, Q4_K, NF4, "GPTQ 4 bit"; shape: as it is meant, None
    where that is not known; elements: how many numbers it has; same_as: the weight that it shares
    its memory with.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    elements: int
    same_as: str | None = None


class Unpacked(NamedTuple):
    """A weight, the tensor that has its codes, and those that belong to it besides."""

    weight: Weight
    codes: str
    companions: tuple[str, ...]


def unpacked(artifact: Artifact, entry: Entry) -> Iterator[Unpacked]:
    """What the tensor tells of: a weight whose codes or scales it has, or nothing."""
    for end, unpack in _PACKINGS.items():
        if entry.name.endswith(end):
            yield from unpack(artifact, entry, entry.name.removesuffix(end))


def _four_bits(artifact: Artifact, state: Entry, stem: str) -> Iterator[Unpacked]:
    codes = artifact.tensors.get(stem)
    if codes is None:
        return
    shape = _state_shape(artifact, state)
    # the bytes may be filled up to whole elements of the type that they are stored as
    if shape is not None and not 0 <= codes.nbytes - -(-prod(shape) // 2) < _STORED_AS:
        shape = None
    elements = 2 * codes.nbytes if shape is None else prod(shape)
    form = next(form for end, form in _STATES.items() if state.name.endswith(end))
    yield Unpacked(
        Weight(stem, form, shape, elements, codes.same_as),
        stem,
        (state.name, *(stem + end for end in _OF_STATE)),
    )


def _state_shape(artifact: Artifact, state: Entry) -> tuple[int, ...] | None:
    """The shape in a description, which is JSON in a tensor of bytes."""
    if artifact.is_remote or state.dtype != "U8" or state.nbytes > 4096:
        return None
    try:
        raw: Any = artifact.read(state.name)
        found = parse_json(raw.tobytes().decode(), state.name)
    except (EntrenarError, UnicodeDecodeError):
        return None
    shape = found.get("shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        return None
    return tuple(shape)


def _eight_bits(artifact: Artifact, _scale: Entry, stem: str) -> Iterator[Unpacked]:
    yield from _with_scales(artifact, f"{stem}.weight", f"{stem}.SCB", f"{stem}.weight_format")


def _scaled(artifact: Artifact, scale: Entry, stem: str) -> Iterator[Unpacked]:
    activations = f"{stem.removesuffix('.weight')}.input_scale"
    yield from _with_scales(artifact, stem, scale.name, activations)


def _with_scales(artifact: Artifact, name: str, *companions: str) -> Iterator[Unpacked]:
    """A weight of one byte for each element, with what it is multiplied by."""
    codes = artifact.tensors.get(name)
    if codes is not None and codes.nbytes == codes.elements:
        weight = Weight(name, codes.dtype, codes.shape, codes.elements, codes.same_as)
        yield Unpacked(weight, name, companions)


def _grouped(artifact: Artifact, codes: Entry, stem: str) -> Iterator[Unpacked]:
    """GPTQ packs the inputs of (in, out) into words, AWQ the outputs; scales are (groups, out)."""
    scales, zeros = (artifact.tensors.get(f"{stem}.{end}") for end in ("scales", "qzeros"))
    if scales is None or not len(codes.shape) == len(scales.shape) == 2 or not scales.shape[1]:
        return
    rows, columns, outputs = *codes.shape, scales.shape[1]
    if columns == outputs:
        bits, form = _bits(artifact, zeros, outputs), "GPTQ"
        if bits is None:
            return
        inputs = rows * WORD // bits
    else:
        bits, form, inputs = columns * WORD // outputs, "AWQ", rows
    ends = ("scales", "qzeros", "g_idx")
    yield Unpacked(
        Weight(f"{stem}.weight", f"{form} {bits} bit", (outputs, inputs), inputs * outputs),
        codes.name,
        tuple(f"{stem}.{end}" for end in ends),
    )


def _bits(artifact: Artifact, zeros: Entry | None, outputs: int) -> int | None:
    """The bits of a code of GPTQ: there is a zero for each output, as many bits wide."""
    if zeros is not None and len(zeros.shape) == 2 and zeros.shape[1]:
        return zeros.shape[1] * WORD // outputs or None
    return _stated_bits(artifact)


def _packed(artifact: Artifact, codes: Entry, stem: str) -> Iterator[Unpacked]:
    bits = _stated_bits(artifact)
    if bits is None or len(codes.shape) != 2 or not codes.dtype.endswith("32"):
        return
    shape = (codes.shape[0], codes.shape[1] * WORD // bits)
    ends = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")
    yield Unpacked(
        Weight(f"{stem}.weight", f"INT{bits}", shape, prod(shape)),
        codes.name,
        tuple(f"{stem}.{end}" for end in ends),
    )


def _stated_bits(artifact: Artifact) -> int | None:
    """The bits of a code as the config says."""
    stated = artifact.config.get("quantization_config")
    if not isinstance(stated, dict):
        return None
    groups = stated.get("config_groups")
    of_groups = [
        part["weights"].get("num_bits")
        for part in (groups.values() if isinstance(groups, dict) else ())
        if isinstance(part, dict) and isinstance(part.get("weights"), dict)
    ]
    found = {bits for bits in (stated.get("bits"), *of_groups) if bits is not None}
    bits = found.pop() if len(found) == 1 else None
    return bits if type(bits) is int and 1 <= bits <= 8 else None


def _microscaled(artifact: Artifact, codes: Entry, stem: str) -> Iterator[Unpacked]:
    scales = f"{stem}_scales"
    if codes.dtype == "U8" and scales in artifact.tensors:
        yield Unpacked(Weight(stem, "MXFP4", None, 2 * codes.nbytes), codes.name, (scales,))


_PACKINGS: dict[str, Callable[[Artifact, Entry, str], Iterator[Unpacked]]] = {
    **dict.fromkeys(_STATES, _four_bits),
    ".SCB": _eight_bits,
    "_scale_inv": _scaled,
    ".weight_packed": _packed,
    ".qweight": _grouped,
    "_blocks": _microscaled,
}
"""What the name of a tensor ends with → how the weight that it tells of is unpacked."""
_PACKINGS |= {
    "weight_scale": lambda artifact, scale, stem: _scaled(artifact, scale, f"{stem}weight")
}

ENDS = tuple(_PACKINGS)
"""What names of tensors end with that may tell of a packed weight."""
