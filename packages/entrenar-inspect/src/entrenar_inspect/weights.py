"""Weights as they are meant: what low-bit formats pack is unpacked, what only goes along left out.

A format of few bits stores one matrix as several tensors. Here it is one weight again, with the
shape and the number of elements that it stands for, found from names and shapes alone. Sources:
bitsandbytes' `functional.py` (QuantState) and `nn/modules.py` (SCB), AutoGPTQ's and AutoAWQ's
packing of linear layers, compressed-tensors' `pack_quantized`, transformers' `mxfp4.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from entrenar_common.errors import EntrenarError
from entrenar_core.io.strict_json import parse_json
from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.names import WRAPPED, is_of_adapter, pattern_of

WORD = 32
"""Bits of the integers that GPTQ, AWQ and compressed-tensors pack their codes into."""

_BUFFERS = frozenset({
    "masked_bias", "position_ids", "token_type_ids", "running_mean", "running_var",
    "num_batches_tracked", "rope_freqs.weight", "rope_factors_long.weight",
    "rope_factors_short.weight", "attn_rot_embd.weight",
})  # fmt: skip
"""Last parts of the names of what a model stores without learning it."""

_INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})
_STATES = {".quant_state.bitsandbytes__nf4": "NF4", ".quant_state.bitsandbytes__fp4": "FP4"}
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


class Place(NamedTuple):
    """Where a pattern is met first: the tensor, and its shape where that is known."""

    name: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Weights:
    """All weights by name, in the files' order.

    buffers: names of tensors that are none; companions: names of those that describe packed ones;
    unknown: those of integers that may be packed in a way that is not known here.
    """

    by_name: Mapping[str, Weight]
    buffers: tuple[str, ...]
    companions: frozenset[str]
    unknown: tuple[str, ...]

    @cached_property
    def model(self) -> Mapping[str, Weight]:
        """Those of the model that adapters are on, by the names that it had before."""
        if not any(map(is_of_adapter, self.by_name)):
            return self.by_name
        return {
            name.replace(WRAPPED, "."): weight
            for name, weight in self.by_name.items()
            if not is_of_adapter(name)
        }

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where each pattern of the model's names is met first."""
        found: dict[str, Place] = {}
        for name, weight in self.model.items():
            found.setdefault(pattern_of(name), Place(name, weight.shape))
        return found


class _Unpacked(NamedTuple):
    """A weight, the tensor that has its codes, and those that belong to it besides."""

    weight: Weight
    codes: str
    companions: tuple[str, ...]


def weights_of(artifact: Artifact) -> Weights:
    """The weights of an artifact, from its headers and, where they are in 4 bits of bitsandbytes,
    from the few bytes that describe each. They are found once, since headers do not change."""
    found = _FOUND.get(artifact)
    if found is None:
        found = _FOUND[artifact] = _sorted_out(artifact)
    return found


_FOUND: WeakKeyDictionary[Artifact, Weights] = WeakKeyDictionary()


def _sorted_out(artifact: Artifact) -> Weights:
    ends = tuple(_PACKINGS)
    packed: dict[str, Weight] = {}
    companions: set[str] = set()
    for name, entry in artifact.tensors.items():
        if name.endswith(ends):
            for found in _unpacked(artifact, entry):
                packed[found.codes] = found.weight
                companions.update(found.companions)
    by_name: dict[str, Weight] = {}
    buffers: list[str] = []
    unknown: list[str] = []
    for name, entry in artifact.tensors.items():
        if name in packed:
            by_name[packed[name].name] = packed[name]
        elif name not in companions:
            _sort_in(entry, by_name, buffers, unknown)
    return Weights(by_name, tuple(buffers), frozenset(companions), tuple(unknown))


def _unpacked(artifact: Artifact, entry: Entry) -> Iterator[_Unpacked]:
    for end, unpack in _PACKINGS.items():
        if entry.name.endswith(end):
            yield from unpack(artifact, entry, entry.name.removesuffix(end))


def _sort_in(
    entry: Entry, by_name: dict[str, Weight], buffers: list[str], unknown: list[str]
) -> None:
    if is_buffer(entry):
        buffers.append(entry.name)
        is_matrix = entry.dtype in _INTEGERS and len(entry.shape) > 1
        if is_matrix and not _is_named_buffer(entry.name) and not _is_mask(entry):
            unknown.append(entry.name)
    else:
        by_name[entry.name] = Weight(
            entry.name, entry.dtype, entry.shape, entry.elements, entry.same_as
        )


def is_buffer(entry: Entry) -> bool:
    """Whether it is stored without being learned: integers, masks, frequencies, running means.

    Of codes that are packed into integers this is true as well.
    """
    if _is_named_buffer(entry.name) or _is_mask(entry):
        return True
    return entry.dtype in _INTEGERS or entry.dtype == "BOOL"


def _is_named_buffer(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last in _BUFFERS or last.endswith("inv_freq") or _two_last(name) in _BUFFERS


def _two_last(name: str) -> str:
    return ".".join(name.rsplit(".", 2)[-2:])


def _is_mask(entry: Entry) -> bool:
    """GPT-2 and GPT-NeoX kept the triangle of attention under the name of a bias."""
    shape = entry.shape
    return entry.name.endswith(".bias") and len(shape) == 4 and shape == (1, 1, shape[2], shape[2])


def _four_bits(artifact: Artifact, state: Entry, stem: str) -> Iterator[_Unpacked]:
    codes = artifact.tensors.get(stem)
    if codes is None:
        return
    shape = _state_shape(artifact, state)
    if shape is not None and -(-prod(shape) // 2) > codes.nbytes:
        shape = None  # it says more than there is
    elements = 2 * codes.nbytes if shape is None else prod(shape)
    form = next(form for end, form in _STATES.items() if state.name.endswith(end))
    yield _Unpacked(
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


def _eight_bits(artifact: Artifact, _scale: Entry, stem: str) -> Iterator[_Unpacked]:
    yield from _with_scales(artifact, f"{stem}.weight", f"{stem}.SCB", f"{stem}.weight_format")


def _scaled(artifact: Artifact, scale: Entry, stem: str) -> Iterator[_Unpacked]:
    activations = f"{stem.removesuffix('.weight')}.input_scale"
    yield from _with_scales(artifact, stem, scale.name, activations)


def _with_scales(artifact: Artifact, name: str, *companions: str) -> Iterator[_Unpacked]:
    """A weight of one byte for each element, with what it is multiplied by."""
    codes = artifact.tensors.get(name)
    if codes is not None and codes.nbytes == codes.elements:
        weight = Weight(name, codes.dtype, codes.shape, codes.elements, codes.same_as)
        yield _Unpacked(weight, name, companions)


def _grouped(artifact: Artifact, codes: Entry, stem: str) -> Iterator[_Unpacked]:
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
    yield _Unpacked(
        Weight(f"{stem}.weight", f"{form} {bits} bit", (outputs, inputs), inputs * outputs),
        codes.name,
        tuple(f"{stem}.{end}" for end in ends),
    )


def _bits(artifact: Artifact, zeros: Entry | None, outputs: int) -> int | None:
    """The bits of a code of GPTQ: there is a zero for each output, as many bits wide."""
    if zeros is not None and len(zeros.shape) == 2 and zeros.shape[1]:
        return zeros.shape[1] * WORD // outputs or None
    return _stated_bits(artifact)


def _packed(artifact: Artifact, codes: Entry, stem: str) -> Iterator[_Unpacked]:
    bits = _stated_bits(artifact)
    if bits is None or len(codes.shape) != 2 or not codes.dtype.endswith("32"):
        return
    shape = (codes.shape[0], codes.shape[1] * WORD // bits)
    ends = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")
    yield _Unpacked(
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


def _microscaled(artifact: Artifact, codes: Entry, stem: str) -> Iterator[_Unpacked]:
    scales = f"{stem}_scales"
    if codes.dtype == "U8" and scales in artifact.tensors:
        yield _Unpacked(Weight(stem, "MXFP4", None, 2 * codes.nbytes), codes.name, (scales,))


_PACKINGS: dict[str, Callable[[Artifact, Entry, str], Iterator[_Unpacked]]] = {
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
